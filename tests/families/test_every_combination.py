"""Every family with every kind of data and objective that fits (`combinations.py`): its program in
its forms, alone, in pieces and over devices.
"""

import dataclasses
import json
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from combinations import COMPILED_OTHERWISE, MESHES, ONE_MESH, ROWS, Combination, wide, written

from scaling import data
from scaling.check import target
from scaling.check.report import as_dict, check
from scaling.config import choices, override, passes, programs, to_dict
from scaling.costs import counts, sizes
from scaling.costs.counted import counted
from scaling.costs.ledger import Ledger, ledger
from scaling.devices import sharding
from scaling.errors import ConfigError
from scaling.families import build
from scaling.objectives.objective import build as build_objective
from scaling.studies import study
from scaling.train import inside
from scaling.train.evaluate import join, summarise


def assert_close(ours: Any, theirs: Any) -> None:
    """Gradient and sums. Of a leaf as a whole: an element may be a small difference of large terms;
    and the same sums in another order are the same to some 1e-6 in float32.
    """
    leaves = [jax.tree_util.tree_leaves_with_path(tree) for tree in (ours, theirs)]
    for (path, one), (_, other) in zip(*leaves, strict=True):
        distance = np.linalg.norm(np.float64(one) - other)
        assert distance <= 1e-5 * np.linalg.norm(other) + 1e-7, jax.tree_util.keystr(path)


def test_every_parameter_has_logical_axes_with_rules(one: Combination):
    known = {name for name, _ in sharding.PARAMETER_RULES}
    boxes = jax.tree.leaves(one.plan.boxed.params, is_leaf=lambda x: hasattr(x, "names"))
    assert boxes
    for box in boxes:
        assert isinstance(box, nn.LogicallyPartitioned)
        assert len(box.names) == box.value.ndim
        assert set(box.names) <= known


def test_the_shapes_that_the_kind_declares_are_those_of_a_batch(one: Combination):
    found = {n: (x.shape, x.dtype) for n, x in data.train_batches(one.config).batch(0).items()}
    assert found == {n: (s.shape, s.dtype) for n, s in counts.batch_shapes(one.config).items()}
    assert one.kind.fields <= found.keys()
    for set_ in one.config.evals.sets:
        batch = data.eval_batches(one.config, set_).batch(0)
        assert {n: (x.shape, x.dtype) for n, x in batch.items()} == found


def test_what_states_the_sizes_of_its_data_is_planned_without_them(one: Combination):
    stated = choices.stated(one.config.model, one.config.data)
    if stated is None:
        pytest.skip("it states none")
    run, found = written(one.names, one.text), {"data.corpus": None}
    for group in ("model", "data"):
        told = to_dict(getattr(one.config, group)).items()
        unset = [k for k, value in to_dict(getattr(run, group)).items() if value is None]
        found |= {f"{group}.{k}": value for k, value in told if k in unset and k != "corpus"}
    planned = study.resolve_planned(override(run, found))
    assert planned.model == one.config.model
    assert counts.params_shapes(planned) == counts.params_shapes(one.config)


def test_the_model_gives_what_its_record_says(one: Combination):
    outputs = jax.eval_shape(
        lambda p, b: build(one.config.model).apply({"params": p}, b),
        counts.params_shapes(one.config),
        counts.batch_shapes(one.config),
    )
    assert outputs.keys() <= one.family.gives or one.family.gives <= outputs.keys()
    assert one.objective.outputs <= outputs.keys()


def test_a_loop_over_layers_is_the_layers_one_after_the_other(one: Combination):
    if not one.has("scan_layers"):
        pytest.skip("one layer, or layers that differ")
    assert_close(one.gradient({"model.scan_layers": False}), one.whole)


def test_what_is_computed_again_changes_nothing(one: Combination):
    *_, most = one.family.remats
    if most == "none":
        pytest.skip("there is nothing to compute again")
    assert_close(one.gradient({"model.remat": most}), one.whole)


def test_a_model_that_is_cut_behind_its_last_block_is_itself(one: Combination):
    """And behind its first it is not; whatever attention it has shares all out."""
    if passes.stack(one.config) is None:
        pytest.skip("it has no stack of equal blocks")
    depth, module = one.config.model.depth, inside.plain(one.config)
    cuts = (module, inside.Cut(module, depth, depth), inside.Cut(module, depth - 1, depth))

    @jax.jit
    def look(params, batch):
        seen = inside.attention(module, params, batch)
        return [cut.apply({"params": params}, batch) for cut in cuts], seen

    (whole, same, shorter), seen = look(one.params, one.batch)
    assert_close(same, whole)
    with pytest.raises(AssertionError):
        assert_close(shorter, whole)
    for weights in seen.values():
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_microbatches_are_the_full_batch(one: Combination):
    """Also where rows weigh differently: every mean has a count of its own."""
    fields = {"train.microbatches": 4}
    if one.objective.couples_rows:
        with pytest.raises(ConfigError, match=r"train\.microbatches=4"):
            one.resolved(fields)
        return
    assert_close(one.gradient(fields), one.whole)


@pytest.mark.parametrize("mesh", MESHES)
def test_a_mesh_gives_the_same_losses(one: Combination, mesh: str):
    """As alone: other orders of summation, four updates long."""
    np.testing.assert_allclose(one.curve(mesh), one.losses, rtol=1e-5)


def test_training_on_one_batch_lowers_its_loss(one: Combination):
    losses = one.curve(ONE_MESH, same_batch=True)
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.95 * losses[0]


def test_rows_that_fill_up_a_batch_count_for_nothing(one: Combination):
    """Six examples in a batch of eight, and in one of six."""
    batches = data.eval_batches(one.config, "val")
    first = batches.selection[:6]
    found = []
    for size in (6, ROWS):
        part = dataclasses.replace(batches, selection=first, batch_size=size, steps=1)
        rows = jax.device_get(one.rows_of(one.params, part.batch(0)))
        found.append(summarise(one.config, "val", {name: join([x]) for name, x in rows.items()}))
    assert found[0]["rows"] == found[1]["rows"] == 6
    assert found[0].keys() == found[1].keys()
    assert set(one.objective.metrics) <= found[0].keys()
    for name, value in found[0].items():
        assert math.isfinite(value)
        # The padded program sums in another order.
        assert math.isclose(value, found[1][name], rel_tol=1e-5, abs_tol=1e-6), name


def test_nothing_causal_looks_ahead(one: Combination):
    """The gradient of the output at a place, by the rows of the table of tokens, each of which is
    the input of one place.
    """
    if not one.family.causal:
        pytest.skip("not causal")
    length = one.batch["tokens"].shape[1]
    row = np.arange(length, dtype=np.int32)[None]
    batch = {name: x[:1] for name, x in one.batch.items()} | {"tokens": row}
    model, (table, params) = build(one.config.model), _table(one)
    weights = np.random.default_rng(0).normal(size=one.config.model.width).astype(np.float32)

    def output_L(table: Any) -> Any:
        outputs = model.apply({"params": params | {"embedding": table}}, batch)
        return outputs["hidden"][0] @ weights

    influence = np.abs(jax.jit(jax.jacrev(output_L))(table))[:, :length].sum(axis=2)
    np.testing.assert_array_equal(influence > 0, np.tril(np.ones((length, length), bool)))


def _table(one: Combination) -> tuple[Any, Any]:
    assert "embedding" in one.params, "a causal family keeps its table of tokens as `embedding`"
    return one.params["embedding"], one.params


# ---- costs


def test_the_closed_size_is_the_counted_one(one: Combination):
    size = sizes.size(one.config)
    found = counted(one.config.model, one.config.data)
    assert size.params == found.params == sum(x.size for x in jax.tree.leaves(one.params))
    assert size.params_non_embedding == found.params_non_embedding
    if size.flops_per_unit != found.flops_per_unit:
        # Three times the forward pass is what is counted without a closed form. That may know more:
        # of a first layer that nothing before it is trained; of a head that the loss computes it.
        # It then has what the program executes, but for the few products of the metrics.
        program = counts.train_ledger(one.config)
        units = ROWS * one.config.data.units_per_example
        executed = (program.matmul + program.convolution) / units
        assert size.flops_per_unit <= executed <= 1.001 * size.flops_per_unit


def test_the_ledger_is_what_the_compiler_counts(one: Combination):
    """Forward, and backward to parameters and inputs: without the latter the compiler leaves out
    the first layer's. 2 percent, for what it fuses or finds twice.
    """
    for name in (one.names.family, one.names.objective):
        if name in COMPILED_OTHERWISE:
            pytest.skip(COMPILED_OTHERWISE[name])
    config = wide(one.names, one.text)
    model, objective = build(config.model), build_objective(config.objective)
    params, batch = counts.params_shapes(config), counts.batch_shapes(config)
    inputs = {n: x for n, x in batch.items() if jnp.issubdtype(x.dtype, jnp.floating)}

    def forward(params: Any, inputs: Any, batch: Any) -> Any:
        return objective.rows(model, params, batch | inputs)

    def loss(params: Any, inputs: Any, batch: Any) -> Any:
        return objective.loss(model, params, batch | inputs, jax.random.key(0))[0]

    for function in (forward, jax.value_and_grad(loss, argnums=(0, 1))):
        compiled = jax.jit(function).lower(params, inputs, batch).compile()
        ours = ledger(function, params, inputs, batch)
        assert abs(ours.flops / compiled.cost_analysis()["flops"] - 1) < 0.02


def test_every_part_is_counted_once(one: Combination):
    parts = counts.parts_ledger(one.config)
    total = sum((c for passes in parts.values() for c in passes.values()), Ledger())
    assert total == counts.train_ledger(one.config)


def test_check_compiles_it(one: Combination):
    config = one.with_fields({"mesh.data": 8})
    report = check(config, target.of_devices())
    assert report.fits
    found = json.loads(json.dumps(as_dict(report)))
    assert found["params"]["total"] == sizes.size(config).params
    assert found["unit"] == config.data.unit
    assert found["units_per_step"] == ROWS * config.data.units_per_example
    assert programs.hparams(config).keys() >= {"peak_lr", "seed"}
