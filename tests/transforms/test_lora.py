"""A low-rank update starts as the model itself, and nothing else is trained."""

import dataclasses
import math

import flax.linen as nn
import jax
import numpy as np
import pytest
from stepping import begun, curve

from scaling import data, families
from scaling.config import choices, contracts, fingerprint, programs
from scaling.costs import counts, sizes
from scaling.errors import ConfigError
from scaling.objectives.next_token.cross_entropy import logits
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.serving.continuation import continue_texts
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.train.step import gradients
from scaling.transforms import transform
from scaling.transforms.lora.functions import cut

LORA = {"transform.name": "lora", "transform.rank": 2, "transform.modules": "*"}
DEEP = {"model.depth": 2}  # the stack has more than one place


def values_of(pieces, config, params):
    """Loss, gradients and what evaluation sees of one batch."""
    batch, hparams = data.train_batches(config).batch(0), programs.hparams(config)
    key = jax.random.key(0)
    grads, sums = jax.jit(lambda p: gradients(pieces, 1, p, batch, hparams, key))(params)
    outputs = jax.jit(lambda p: pieces.model.apply({"params": p}, batch))(params)
    rows = jax.jit(lambda p: pieces.objective.rows(pieces.model, p, batch))(params)
    return jax.device_get((grads, (sums, rows), outputs["hidden"]))


@pytest.fixture(scope="module")
def both(tiny):
    """(parts, layout, state) without and with the transform, of one seed."""
    return [begun(tiny(DEEP | fields)) for fields in ({}, LORA)]


@pytest.mark.slow
def test_at_its_start_the_model_is_the_base_bit_for_bit(tiny, both):
    (plain, _, base), (adapted, _, state) = both
    stored = dict(subtree.leaves(state.params))
    for path, leaf in subtree.leaves(base.params):
        np.testing.assert_array_equal(stored[path], leaf, err_msg=path)
    _, *expected = values_of(plain, tiny(DEEP), base.params)
    _, *found = values_of(adapted, tiny(DEEP | LORA), state.params)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.slow
def test_the_gradient_of_the_factors_is_the_chain_rule_of_the_matrix(tiny, both):
    """With B at zero A has none; that of B is scale * A^T dW, the matrix's own by plain JAX."""
    (plain, _, base), (adapted, _, state) = both
    whole = dict(subtree.leaves(values_of(plain, tiny(DEEP), base.params)[0]))
    grads = dict(subtree.leaves(values_of(adapted, tiny(DEEP | LORA), state.params)[0]))
    stored, scale = dict(subtree.leaves(jax.device_get(state.params))), 16.0 / 2
    assert grads
    assert all(path.endswith(("_lora_a", "_lora_b")) for path in grads)
    for path in (path.removesuffix("_lora_b") for path in grads if path.endswith("_lora_b")):
        a, b, dw = (stored[path + "_lora_a"], grads[path + "_lora_b"], whole[path])
        stacked = a.ndim + b.ndim - 2 - dw.ndim
        stack = dw.shape[:stacked]
        a, dw = a.reshape(*stack, -1, 2), dw.reshape(*stack, math.prod(a.shape[stacked:-1]), -1)
        expected = scale * np.swapaxes(a, -1, -2) @ dw
        # Sums in another order, against the size of the leaf.
        apart = np.linalg.norm(b.reshape(expected.shape) - expected)
        assert apart <= 1e-5 * np.linalg.norm(expected), path
        assert expected.any()
        assert not grads[path + "_lora_a"].any()


@pytest.mark.slow
def test_what_is_frozen_stays_bit_for_bit_and_has_no_moments(tiny, both):
    _, (_, plan, state) = both
    begins = dict(subtree.leaves(jax.device_get(state.params)))
    _, after = curve(tiny(DEEP | LORA), steps=3)
    for path, leaf in subtree.leaves(after):
        same = np.array_equal(leaf, begins[path])
        assert same == (not path.endswith(("_lora_a", "_lora_b"))), path
    trained = sum(v.size for p, v in begins.items() if "_lora_" in p)
    moments = sum(leaf.size for leaf in jax.tree.leaves(plan.abstract.opt_state) if leaf.ndim)
    assert moments == 2 * trained
    config = tiny(DEEP | LORA)
    assert counts.params_trained(config) == trained
    record = sizes.as_record(config)
    assert record["params_trained"] == trained
    assert record["params"] == sizes.size(tiny(DEEP)).params
    assert "params_trained" not in sizes.as_record(tiny(DEEP))


def test_an_average_of_weights_is_of_what_is_trained(tiny):
    _, _, state = begun(tiny(LORA | {"optim.ema_decay": 0.9}))
    paths = {path for path, _ in subtree.leaves(state.ema)}
    assert paths
    assert all("_lora_" in path for path in paths)
    assert {p for p, _ in subtree.leaves(state.evaluated)} == {
        p for p, _ in subtree.leaves(state.params)
    }


@pytest.mark.slow
def test_further_leaves_are_trained_whole(tiny):
    config = tiny(LORA | {"transform.also": "final_norm"})
    before = dict(subtree.leaves(jax.device_get(begun(config)[2].params)))
    after = dict(subtree.leaves(curve(config, steps=2)[1]))
    moved = {p for p in before if "_lora_" not in p and not np.array_equal(before[p], after[p])}
    assert moved == {"final_norm/scale"}


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("w", ("embed", "heads", "head_dim"), (0, 1)),
        ("w", ("layers", "heads", "head_dim", "embed"), (1, 2)),
        ("w", ("layers", "expert", "embed", "mlp"), (2, 1)),
        ("w", ("kernel_height", "kernel_width", "embed", "mlp"), (0, 3)),
        ("blocks/norm/scale", ("layers", "norm"), None),
        ("cell/bias", ("gates", "mlp"), None),
    ],
)
def test_a_matrix_is_cut_between_inputs_and_outputs(path, names, expected):
    assert cut(path, names) == expected


@pytest.mark.parametrize("name", list(choices.registry("model")))
def test_every_family_takes_it_at_its_axes(name):
    """Both factors have an axis for each name, and fit their matrix."""
    family = choices.record("model", name)
    known = {"vocab": 11, "height": 8, "image_width": 8, "channels": 1, "classes": 3}
    known |= {"features": 5, "targets": 2, "text_len": 6, "entities": 7, "relations": 2}
    known |= {"samples": 4000, "sample_rate": 8000, "samples_per_token": 800, "transcript_len": 3}
    model = family.resolve(
        dataclasses.replace(family.config(), width=16, depth=2), contracts.Facts("", 1, 1, known)
    )
    shapes = {"tokens": (1, 4), "positions": (1, 4), "segment_ids": (1, 4)}
    shapes |= {"image": (1, 8, 8, 1), "features": (1, 5)}
    shapes |= {"source": (1, 6), "source_segments": (1, 6)}
    shapes |= {"text": (1, 6), "text_segments": (1, 6)}
    shapes |= {"audio": (1, 4000), "samples": (1,)}
    shapes |= dict.fromkeys(("head", "relation", "tail"), (1,))
    batch = {
        field: np.zeros(shapes[field], _dtype(field)) for field in family.reads or {"features"}
    }
    config = choices.new("transform", "lora")
    functions = choices.load(choices.transform(config).functions)(
        dataclasses.replace(config, rank=1, modules="*"), dict
    )
    module = transform.Transformed(families.build(model), functions)
    boxed = jax.eval_shape(lambda: module.init(jax.random.key(0), batch))["params"]
    leaves = dict(subtree.leaves(boxed))
    assert any("_lora_a" in path for path in leaves)
    assert all(len(box.names) == box.value.ndim for box in leaves.values())
    used = jax.eval_shape(functions.apply, nn.unbox(boxed))
    assert {p: leaf.shape for p, leaf in subtree.leaves(used)} == {
        p: box.value.shape for p, box in leaves.items() if "_lora_" not in p
    }


def _dtype(field: str) -> type:
    return np.float32 if field in ("image", "features") else np.int32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"transform.modules": "quary"}, r'transform\.modules: \'quary\' .*did you mean "query"'),
        ({"transform.modules": " "}, "transform.modules is empty"),
        ({"transform.also": "nothing"}, "transform.also: 'nothing' means none"),
        ({"transform.rank": 17, "transform.modules": "query"}, "rank=17 is more than the matrix"),
    ],
)
def test_what_cannot_be_is_named(tiny, fields, message):
    with pytest.raises(ConfigError, match=message):
        begun(tiny(LORA | fields))


def test_the_rank_is_of_the_identity_and_none_is_as_if_there_were_no_transform(tiny):
    configs = [tiny(LORA | {"transform.rank": rank}) for rank in (1, 2)]
    assert len({fingerprint(config) for config in (tiny(), *configs)}) == 3
    assert transform.functions(tiny()) is None


@pytest.mark.slow
def test_merged_it_says_what_it_says_unmerged(tiny, both):
    """The sum of each matrix and its factors, as the plain model's parameters: bit for bit."""
    (base, _, _), (adapted, _, state) = both
    config = tiny(DEEP | LORA)
    rng = np.random.default_rng(0)
    moved = jax.tree.map(lambda p: p + 0.1 * rng.normal(size=p.shape).astype(p.dtype), state.params)
    merged = transform.used(config, moved)
    assert {path for path, _ in subtree.leaves(merged)} == {
        path for path, _ in subtree.leaves(moved) if "_lora_" not in path
    }
    batch = data.train_batches(config).batch(0)
    ours = base.model.apply({"params": merged}, batch)["hidden"]
    theirs = adapted.model.apply({"params": moved}, batch)["hidden"]
    assert not np.array_equal(ours, base.model.apply({"params": state.params}, batch)["hidden"])
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.exhaustive
def test_over_a_mesh_the_curve_is_the_same(tiny):
    fields = DEEP | LORA
    losses, _ = curve(tiny(fields))
    for mesh in ({"mesh.fsdp": 2, "mesh.tensor": 2}, {"mesh.data": 4}):
        spread, _ = curve(tiny(fields | mesh | {"train.microbatches": 2}), devices=4)
        np.testing.assert_allclose(spread, losses, rtol=1e-5)  # sums in another order


@pytest.mark.slow
def test_a_tuned_run_writes_what_its_tuned_model_says(tiny, tmp_path):
    """Greedily, token by token by the model as it is trained: the base alone writes other text."""
    rate = {"optim.peak_lr": 0.5, "optim.warmup_fraction": 0.0, "train.steps": 6}
    config = tiny(DEEP | LORA | rate)
    train(config, tmp_path, devices=jax.devices()[:1], quiet=True)
    run = RunDirectory.open(config, tmp_path)
    opened = newest(run)
    tokens = [256, *b"def"]

    def most_likely(apply, params):
        row = jax.numpy.asarray([tokens], "int32")
        places = jax.numpy.arange(row.shape[1])[None]
        batch = {"tokens": row, "positions": places, "segment_ids": jax.numpy.ones_like(row)}
        return int(logits(apply({"params": params}, batch))[0, -1].argmax())

    base = most_likely(families.build(config.model).apply, opened.state.params)
    for _ in range(3):
        tokens.append(most_likely(opened.pieces.model.apply, opened.state.evaluated))
    assert tokens[4] != base
    (written,) = continue_texts(run.path, ["def"], 3)
    new = tokens[1 : tokens.index(256, 1) if 256 in tokens[1:] else None]
    assert written == bytes(new).decode("utf-8", errors="replace")
