"""Experts against plain loops over them: who goes where, what it gives, and its gradient."""

import dataclasses
import functools
from collections import Counter
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_transformer import batch_of, init, logits_of, small, tokens_of

from scaling import families, optim
from scaling.config import MeshConfig, OptimConfig
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError, UserError
from scaling.families.decoding import GREEDY
from scaling.families.transformer import TransformerConfig
from scaling.families.transformer.generate import generate
from scaling.models.fields import MoEConfig
from scaling.models.grouped import grouped_matmul
from scaling.models.layers import MLP
from scaling.models.moe import MoE, capacity
from scaling.objectives import objective as objective_lib
from scaling.objectives.next_token import NextTokenConfig
from scaling.train.state import Parts
from scaling.train.step import gradients

# Sums of a few dozen float32 terms of size 1, taken in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}
ROWS, LENGTH, WIDTH = 4, 12, 8
FORMS = {
    "dropless": MoEConfig(experts=4),
    "capacity": MoEConfig(experts=4, capacity_factor=0.75),
    "expert choice": MoEConfig(experts=4, router="expert_choice", capacity_factor=0.5),
}


def config_of(moe: MoEConfig, **fields: Any) -> TransformerConfig:
    return small(width=WIDTH, depth=1, mlp_width=16, moe=moe, **fields)


def module_of(moe: MoEConfig, **fields: Any) -> MoE:
    return MoE(config_of(moe, **fields), out_scale=1.0)


@functools.cache
def stream(seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (ROWS, LENGTH, WIDTH))


@functools.cache
def params_of(moe: MoEConfig, **fields: Any) -> Any:
    params = nn.unbox(jax.jit(module_of(moe, **fields).init)(jax.random.key(1), stream()))["params"]
    # Decided routing: with all probabilities near 1 / E the choices would hang on rounding.
    return params | {"router": 4 * params["router"]}


@functools.cache
def run(moe: MoEConfig, **fields: Any) -> Any:
    """(params, x) -> ((sum of y^2, (y, measures)), gradients by both)."""

    def loss(params: Any, x: jax.Array) -> Any:
        y, measures = module_of(moe, **fields).apply({"params": params}, x)
        return jnp.sum(y**2), (y, measures)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


def assert_trees_close(actual: Any, wanted: Any, **tolerance: float) -> None:
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, **(tolerance or CLOSE)), actual, wanted
    )


# ---- a plain loop over experts


def expert(params: Any, e: int, x: jax.Array) -> jax.Array:
    h = x @ params["up"][e]
    h = nn.silu(x @ params["gate"][e]) * h if "gate" in params else nn.gelu(h)
    return h @ params["down"][e]


def probabilities(params: Any, x: jax.Array) -> jax.Array:
    return jax.nn.softmax(x @ params["router"], axis=-1)


def routed(moe: MoEConfig, params: Any, x: jax.Array) -> np.ndarray:
    """bool [B, L, E]: whether an expert gets a token, by going through the tokens in order."""
    probs = np.asarray(probabilities(params, x))
    gets = np.zeros(probs.shape, bool)
    slots = capacity(moe, LENGTH)
    if moe.router == "expert_choice":
        for b, e in np.ndindex(ROWS, moe.experts):
            gets[b, np.argsort(-probs[b, :, e])[:slots], e] = True
        return gets
    for b in range(ROWS):
        taken: Counter[int] = Counter()
        for t in range(LENGTH):
            for e in np.argsort(-probs[b, t])[: moe.per_token]:
                gets[b, t, e] = taken[e] < slots
                taken[e] += 1
    return gets


def by_loop(moe: MoEConfig, gets: jax.Array, params: Any, x: jax.Array) -> jax.Array:
    weights = probs = probabilities(params, x)
    if moe.router == "top_k" and moe.per_token > 1:
        weights = probs / jax.lax.top_k(probs, moe.per_token)[0].sum(axis=-1, keepdims=True)
    weights = jnp.where(gets, weights, 0)
    return sum(weights[..., e, None] * expert(params, e, x) for e in range(moe.experts))


@pytest.mark.parametrize(
    ("moe", "mlp"),
    [
        (FORMS["dropless"], "gated"),
        (FORMS["capacity"], "gated"),
        (FORMS["expert choice"], "gated"),
        (MoEConfig(experts=5, per_token=1, capacity_factor=0.7), "plain"),
        pytest.param(MoEConfig(experts=3, per_token=3), "plain", marks=pytest.mark.slow),
        pytest.param(MoEConfig(experts=6, per_token=1), "plain", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_is_a_plain_loop_over_experts(moe: MoEConfig, mlp: Any) -> None:
    params, x = params_of(moe, mlp=mlp), stream()
    gets = routed(moe, params, x)

    @jax.jit
    def wanted(params: Any, x: jax.Array) -> Any:
        y, pull = jax.vjp(functools.partial(by_loop, moe, gets), params, x)
        return y, pull(2 * y)

    (_, (y, measures)), gradient = run(moe, mlp=mlp)(params, x)
    assert_trees_close((y, gradient), wanted(params, x))
    kept = gets.sum(axis=2) / moe.per_token
    if moe.router == "expert_choice":
        kept = gets.any(axis=2)
    np.testing.assert_allclose(measures["dropped"], 1 - kept.mean(axis=1), atol=1e-6)
    assert (kept.min() < 1) == (moe.capacity_factor is not None)  # they are small


def test_one_expert_is_the_dense_mlp() -> None:
    dense = MLP(16, True, jnp.float32)
    params = params_of(MoEConfig(experts=1, per_token=1))
    mlp = {name: {"w": params[name][0]} for name in ("gate", "up", "down")}
    wanted = dense.apply({"params": mlp}, stream())
    for factor in (None, 1.0):
        moe = MoEConfig(experts=1, per_token=1, capacity_factor=factor)
        (_, (y, _)), _ = run(moe)(params, stream())
        np.testing.assert_allclose(y, wanted, **CLOSE)


def test_shared_experts_are_added() -> None:
    moe = dataclasses.replace(FORMS["dropless"], shared=2)
    params = params_of(moe)
    routed_only = {k: w for k, w in params.items() if k != "shared"}
    (_, (y, _)), _ = run(moe)(params, stream())
    (_, (of_routed, _)), _ = run(FORMS["dropless"])(routed_only, stream())
    of_shared = MLP(2 * 16, True, jnp.float32).apply({"params": params["shared"]}, stream())
    np.testing.assert_allclose(y, of_routed + of_shared, **CLOSE)


def test_a_capacity_for_all_drops_nothing() -> None:
    params = params_of(FORMS["dropless"])
    wanted = run(FORMS["dropless"])(params, stream())
    assert_trees_close(run(MoEConfig(experts=4, capacity_factor=2.0))(params, stream()), wanted)


@pytest.mark.parametrize("moe", FORMS.values(), ids=FORMS)
def test_the_order_of_experts_changes_nothing(moe: MoEConfig) -> None:
    params, order = params_of(moe), np.array([2, 0, 3, 1])
    moved = {k: w[:, order] if k == "router" else w[order] for k, w in params.items()}
    (_, wanted), _ = run(moe)(params, stream())
    (_, actual), _ = run(moe)(moved, stream())
    assert_trees_close(actual, wanted)


@pytest.mark.parametrize("moe", FORMS.values(), ids=FORMS)
def test_no_token_depends_on_a_later_one_nor_on_another_row(moe: MoEConfig) -> None:
    """But for expert choice, which says so."""
    changed = stream().at[0, 7:].set(stream(seed=5)[0, 7:])
    (_, (before, _)), _ = run(moe)(params_of(moe), stream())
    (_, (after, _)), _ = run(moe)(params_of(moe), changed)
    np.testing.assert_array_equal(after[1:], before[1:])
    same = np.isclose(after[0, :7], before[0, :7], **CLOSE).all()
    assert same == (moe.router == "top_k")


# ---- measures


def test_the_balance_is_1_when_uniform_and_more_when_not() -> None:
    moe = MoEConfig(experts=4)
    params = params_of(moe)
    uniform = params | {"router": jnp.zeros((WIDTH, 4))}
    (_, (_, even)), _ = run(moe)(uniform, stream())
    np.testing.assert_allclose(even["load_balance"], 1, rtol=1e-6)
    np.testing.assert_allclose(even["router_z"], np.log(4) ** 2, rtol=1e-5)
    (_, (_, some)), _ = run(moe)(params, stream())
    assert some["load_balance"].mean() > 1.02
    assert (some["expert_load"] > 1).all()
    # All tokens alike: two experts take all of them, and nearly all probability.
    (_, (_, most)), _ = run(moe)(
        params | {"router": 100 * params["router"]}, jnp.ones_like(stream())
    )
    np.testing.assert_allclose(most["expert_load"], 2, rtol=1e-6)
    assert (most["load_balance"] > 1.9).all()


def with_targets(tokens: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
    targets = jnp.roll(tokens, -1, axis=1)
    return batch_of(tokens) | {"targets": targets, "loss_mask": mask, "target_bytes": mask}


def penalised(config: TransformerConfig) -> Parts:
    return Parts(
        families.build(config),
        objective_lib.build(NextTokenConfig(load_balance=0.5, router_z=0.1)),
        optim.build(OptimConfig()),
    )


@pytest.mark.slow
def test_penalties_count_the_tokens_of_the_loss() -> None:
    config, mask = small(moe=MoEConfig(experts=4, width=8)), jnp.ones((2, 16)).at[1].set(0)
    pieces, params = penalised(config), init(config)
    batch = with_targets(tokens_of(1, length=16), mask)
    rows = jax.jit(lambda p: pieces.objective.rows(pieces.model, p, batch))(params)
    for name in ("load_balance", "router_z", "expert_load", "dropped"):
        np.testing.assert_array_equal(rows[name].count, [16, 0])  # the other row fills up a batch
        assert rows[name].total[1] == 0
    # The mean over blocks, not their sum: between even and both experts taking all.
    assert 1 <= rows["load_balance"].mean[0] < 2
    assert 1 <= rows["expert_load"].mean[0] <= 2


@pytest.mark.slow
def test_microbatches_with_penalties_are_the_full_batch() -> None:
    config = config_of(FORMS["capacity"])
    pieces, params = penalised(config), init(config)
    mask = (np.arange(4)[:, None] * 3 <= np.arange(16)[None]).astype(np.float32)
    batch = with_targets(tokens_of(1, rows=4, length=16), jnp.asarray(mask))
    hparams = {"load_balance": jnp.float32(0.5), "router_z": jnp.float32(0.1)}

    def of(microbatches: int, hparams: Any) -> Any:
        return gradients(pieces, microbatches, params, batch, hparams, jax.random.key(0))

    full, in_two = (jax.jit(functools.partial(of, m)) for m in (1, 2))
    grads, sums = full(hparams)
    assert_trees_close(in_two(hparams), (grads, sums))
    without, _ = full({"load_balance": jnp.float32(0), "router_z": jnp.float32(0)})
    change = jax.tree.map(lambda a, b: np.abs(a - b).max(), grads, without)
    assert change["blocks"]["moe"]["router"] > 1e-4  # the weights are traced, and do something


# ---- the pieces under it


@pytest.mark.parametrize("sizes", [(3, 0, 150, 47), (0, 0, 0, 0), (0, 200, 0, 0), (1, 1, 1, 1)])
def test_grouped_matmul_takes_each_group_by_itself(sizes: tuple[int, ...]) -> None:
    """Groups of nothing, groups larger than a block, and rows that belong to no group."""
    keys = jax.random.split(jax.random.key(0), 2)
    x, w = jax.random.normal(keys[0], (200, 6)), jax.random.normal(keys[1], (4, 6, 5))
    group = np.repeat(np.arange(5), (*sizes, 200 - sum(sizes)))

    def wanted(x: jax.Array, w: jax.Array) -> jax.Array:
        none = jnp.zeros((1, 6, 5))
        return jnp.einsum("NI,NIO->NO", x, jnp.concatenate([w, none])[group])

    actual, pull = grouped_and_pull(x, w, jnp.array(sizes))
    np.testing.assert_allclose(actual, wanted(x, w), **CLOSE)
    wanted_pull = jax.vjp(wanted, x, w)[1]
    assert_trees_close(pull, wanted_pull(jnp.cos(actual)))


@jax.jit
def grouped_and_pull(x: jax.Array, w: jax.Array, sizes: jax.Array) -> Any:
    y, pull = jax.vjp(lambda x, w: grouped_matmul(x, w, sizes), x, w)
    return y, pull(jnp.cos(y))


# ---- on a mesh


def on_mesh(moe: MoEConfig, mesh_config: MeshConfig) -> Any:
    """As `run`, with rows and experts spread over the mesh."""
    mesh = meshes.make_mesh(mesh_config)
    with sharding.context(mesh):
        boxed = jax.eval_shape(module_of(moe).init, jax.random.key(0), stream())["params"]
        shardings = sharding.state_shardings(boxed, mesh)
        rows = sharding.batch_sharding(mesh)
        mapped = jax.jit(run(moe).__wrapped__, in_shardings=(shardings, rows))
        x = jax.device_put(jnp.concatenate([stream(), stream(1)]), rows)
        return jax.device_get(mapped(jax.device_put(params_of(moe), shardings), x))


MESHES = [
    MeshConfig(expert=2, tensor=2, seq=2),
    MeshConfig(expert=4, fsdp=2),
    MeshConfig(expert=2, tensor=4),  # which divides the tokens,
    MeshConfig(seq=2, tensor=4),  # and which does not
]


@pytest.mark.parametrize(
    ("form", "mesh"),
    [
        ("capacity", MESHES[0]),
        pytest.param("dropless", MESHES[0], marks=pytest.mark.slow),
        pytest.param("expert choice", MESHES[0], marks=pytest.mark.slow),
        *(
            pytest.param(form, m, marks=pytest.mark.exhaustive)
            for form in FORMS
            for m in MESHES[1:]
        ),
    ],
    ids=str,
)
def test_every_mesh_gives_the_same(form: str, mesh: MeshConfig) -> None:
    moe = FORMS[form]
    x = jnp.concatenate([stream(), stream(1)])
    assert_trees_close(on_mesh(moe, mesh), run(moe)(params_of(moe), x))


def test_experts_that_do_not_divide_are_refused() -> None:
    mesh = meshes.make_mesh(MeshConfig(expert=8))
    boxed = jax.eval_shape(module_of(MoEConfig(experts=12)).init, jax.random.key(0), stream())
    with pytest.raises(
        ConfigError, match=r"down.*size 12.*by mesh.expert=8; change model.moe.experts or the mesh"
    ):
        sharding.state_shardings(boxed, mesh)


# ---- generation


@pytest.mark.slow
def test_generation_with_a_cache_is_the_full_forward_pass() -> None:
    """With a capacity, too: a prompt and its continuation drop nothing."""
    moe = MoEConfig(experts=4, width=8)
    config, prompt = config_of(moe), tokens_of(1, length=6)
    params = init(config)
    tight = config_of(dataclasses.replace(moe, capacity_factor=0.25))
    tokens = generate(tight, params, prompt, 6, jax.random.key(0), GREEDY)
    logits = logits_of(config)(params, batch_of(tokens))
    np.testing.assert_array_equal(tokens[:, 6:], logits[:, 5:-1].argmax(axis=-1))


def test_expert_choice_cannot_generate() -> None:
    config = config_of(FORMS["expert choice"])
    with pytest.raises(UserError, match=r"router=expert_choice cannot generate.*router=top_k"):
        generate(config, init(config), tokens_of(1, length=6), 2, jax.random.key(0))


# ---- configs


def test_impossible_experts_name_the_field() -> None:
    with pytest.raises(ConfigError, match=r"model\.moe\.per_token=3 is more than .*experts=2"):
        small(moe=MoEConfig(experts=2, per_token=3))
