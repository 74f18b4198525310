"""Updates with multipliers: each is what it says of one leaf, and nothing else; Muon is optax's."""

import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling import optim
from scaling.config import OptimConfig, RunConfig, TrainConfig, programs
from scaling.config.contracts import Roles
from scaling.optim import Multipliers, Parametrization, roles, subtree

AXES = {
    "embedding": ("vocab", "embed"),
    "blocks": {
        "query": {"w": ("layers", "embed", "heads", "head_dim")},
        "state": ("layers", "embed", "gates", "mlp"),
        "conv": {"w": ("layers", "kernel_height", "kernel_width", "embed", "mlp")},
        "norm": {"scale": ("layers", "norm")},
    },
    "head": {"matrix": ("embed", "outputs"), "bias": ("outputs",)},
}
SIZES = {
    **{"vocab": 11, "embed": 8, "layers": 3, "heads": 2, "head_dim": 4, "gates": 4, "mlp": 12},
    **{"kernel_height": 3, "kernel_width": 3, "norm": 8, "outputs": 5},
}


def tree(seed: int, scale: float = 1.0) -> Any:
    rng = np.random.default_rng(seed)

    def array(axes: tuple[str, ...]) -> jax.Array:
        return jnp.asarray(scale * rng.normal(size=[SIZES[a] for a in axes]), jnp.float32)

    return jax.tree.map(array, AXES, is_leaf=lambda x: isinstance(x, tuple))


def leaves() -> dict[str, roles.Leaf]:
    box = functools.partial(nn.LogicallyPartitioned)
    boxed = jax.tree.map(box, tree(0), AXES, is_leaf=lambda x: isinstance(x, tuple | jax.Array))
    return roles.leaves(boxed, Roles())


def parametrization(**fields: dict[str, float]) -> Parametrization:
    """Multipliers of one kind by path; all others 1."""
    found = leaves()
    own = {path: {kind: of[path] for kind, of in fields.items() if path in of} for path in found}
    return Parametrization(tuple(found.values()), tuple(Multipliers(**own[path]) for path in found))


def config(**fields: Any) -> RunConfig:
    given = {"warmup_fraction": None, "warmup_steps": 0, "schedule": "constant", "clip_norm": None}
    return RunConfig(optim=OptimConfig(**(given | fields)), train=TrainConfig(steps=100))


def updated(
    run: RunConfig, scale: Parametrization | None, steps: int = 3, size: float = 1.0
) -> Any:
    optimizer, h = optim.build(run.optim, parametrization=scale), programs.hparams(run)
    params, update = tree(0), jax.jit(optimizer.update)
    state = optimizer.init(params)
    for step in range(steps):
        params, state, _ = update(tree(100 + step, size), state, params, step, h)
    return params


def test_roles_follow_the_axes():
    found = {path: (leaf.role, leaf.fan_in, leaf.fan_out) for path, leaf in leaves().items()}
    assert found == {
        "embedding": ("input", 11, 8),
        "blocks/query/w": ("hidden", 8, 8),
        "blocks/state": ("hidden", 8, 12),
        "blocks/conv/w": ("hidden", 72, 12),
        "blocks/norm/scale": ("vector", 1, 8),
        "head/matrix": ("output", 8, 5),
        "head/bias": ("vector", 1, 5),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["adamw", "lion", "sgd", "adafactor", "muon", "adagrad", "schedule_free"]
)
def test_a_rate_is_of_the_step_and_not_of_the_decay(name):
    """The leaf moves by so many times what it would, and decays as it would."""
    run = config(name=name, peak_lr=1e-2, weight_decay=0.5)
    for path, factor in (("blocks/query/w", 0.25), ("embedding", 3.0)):
        scaled = updated(run, parametrization(rate={path: factor}), steps=1)
        plain = updated(run, parametrization(), steps=1)
        for leaf, (one, other, start) in _paired(scaled, plain, tree(0)).items():
            decay = 1e-2 * 0.5 * start if roles.decayed(leaf) else 0.0
            step = start - decay - other
            wanted = start - decay - (factor if leaf == path else 1.0) * step
            np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6, err_msg=leaf)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_an_epsilon_is_of_one_leaf(name):
    """As an optimizer with that epsilon moves it; the others as without."""
    run = config(name=name, peak_lr=1e-2, eps=1e-3)
    path, factor = "blocks/query/w", 1 / 16
    small = dataclasses.replace(run, optim=dataclasses.replace(run.optim, eps=1e-3 * factor))
    scaled = updated(run, parametrization(epsilon={path: factor}), size=1e-3)
    both = _paired(scaled, updated(run, None, size=1e-3), updated(small, None, size=1e-3))
    for leaf, (one, plain, other) in both.items():
        np.testing.assert_allclose(one, other if leaf == path else plain, rtol=1e-5, err_msg=leaf)
    moved = both[path]
    assert np.abs(moved[1] - moved[2]).max() > 1e-4  # the epsilon is felt


def test_muon_is_optax_muon():
    """With its consistent RMS of 0.2, for the matrices that the axes say; AdamW's for the rest."""
    run = config(name="muon", peak_lr=1e-2, b1=0.9, weight_decay=0.1)
    found = leaves()
    dims = jax.tree_util.tree_map_with_path(
        lambda path, _: (
            optax.contrib.MuonDimensionNumbers(found[subtree.name(path)].ins,
                                               found[subtree.name(path)].outs)
            if found[subtree.name(path)].role == "hidden"
            else None
        ),
        tree(0),
    )  # fmt: skip
    theirs = optax.contrib.muon(
        1e-2,
        beta=0.9,
        weight_decay=0.1,
        adam_b1=0.9,
        adam_b2=0.95,
        adam_weight_decay=0.0,
        nesterov=True,
        muon_weight_dimension_numbers=dims,
        consistent_rms=0.2,
    )
    params = tree(0)
    state, update = theirs.init(params), jax.jit(theirs.update)
    for step in range(3):
        change, state = update(tree(100 + step), state, params)
        params = optax.apply_updates(params, change)
    for leaf, (ours, other) in _paired(updated(run, parametrization()), params).items():
        if found[leaf].role == "hidden":
            np.testing.assert_allclose(ours, other, rtol=1e-5, atol=1e-6, err_msg=leaf)
    # optax gives Nesterov's momentum to AdamW too; ours is AdamW as it is by itself.
    alone = updated(config(peak_lr=1e-2, b1=0.9), None)
    for leaf, (ours, other) in _paired(updated(run, parametrization()), alone).items():
        if found[leaf].role != "hidden":
            np.testing.assert_allclose(ours, other, rtol=1e-6, err_msg=leaf)


def test_muons_matrices_are_orthogonal_up_to_the_iteration():
    """Every gate, layer and head group by itself: singular values of 0.2 sqrt(max(a, b)), which
    five steps of Newton and Schulz reach to within a third.
    """
    run = config(name="muon", peak_lr=1.0, weight_decay=0.0)
    moved = _paired(tree(0), updated(run, parametrization(), steps=1))
    for path, (fan_in, fan_out) in {"blocks/query/w": (8, 8), "blocks/conv/w": (72, 12)}.items():
        start, end = moved[path]
        values = np.linalg.svd((start - end).reshape(3, fan_in, fan_out), compute_uv=False)
        values /= 0.2 * math.sqrt(max(fan_in, fan_out))
        assert values.min() > 0.3
        assert values.max() < 1.35
    start, end = moved["blocks/state"]
    gates = np.moveaxis(start - end, 2, 1).reshape(12, 8, 12)
    values = np.linalg.svd(gates, compute_uv=False) / (0.2 * math.sqrt(12))
    assert values.min() > 0.3
    assert values.max() < 1.35


def test_a_muon_without_roles_is_refused():
    with pytest.raises(ValueError, match="roles"):
        optim.build(config(name="muon").optim).init(tree(0))


def _paired(*trees: Any) -> dict[str, tuple[np.ndarray, ...]]:
    flat = [dict(subtree.leaves(jax.device_get(one))) for one in trees]
    return {path: tuple(one[path] for one in flat) for path in flat[0]}
