"""The state and batch of a step, and the table of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import override
from scaling.debug import instant, table
from scaling.errors import UserError
from scaling.records import RunDirectory
from scaling.train.loop import train


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A run of twelve steps, with checkpoints after 8 and 12."""
    config = tiny({"train.checkpoint_every": 4, "train.keep_checkpoints": 2})
    workdir = tmp_path_factory.mktemp("trained")
    assert train(config, workdir, devices=jax.devices()[:1], quiet=True).status == "done"
    return RunDirectory.open(config, workdir)


@pytest.mark.parametrize("step", [3, 9, 11, None])
def test_a_step_is_the_one_that_was_trained(trained, step):
    """From nothing, from a checkpoint, from one and two updates; after the last."""
    found = instant.of_run(trained, step)
    assert found.step == (step or 13)
    assert int(found.state.step) == found.step - 1
    recorded = {m["step"]: m for m in trained.metrics() if m["split"] == "train"}
    if found.step in recorded:
        metrics = table.of(found).metrics
        for name in ("loss", "grad_norm", "update_norm", "lr"):
            assert metrics[name] == pytest.approx(recorded[found.step][name], rel=1e-4)


@pytest.mark.slow
def test_a_config_needs_no_run(trained):
    config = trained.config()
    alone, of_run = instant.of_config(config, 3), instant.of_run(trained, 3)
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), alone.state, of_run.state)
    assert all(jax.tree.leaves(equal))


def test_fields_can_be_changed_on_the_way(trained):
    found = instant.of_run(trained, 9, lambda c: override(c, {"model.dtype": "bfloat16"}))
    assert any(row.of.dtype == "bfloat16" for row in table.of(found).modules)


def test_steps_are_counted_from_one(tiny):
    with pytest.raises(UserError, match="--step=0: steps are counted from 1"):
        instant.of_config(tiny(), 0)


def test_the_table_has_every_module_and_parameter(tiny):
    config = tiny({"model.depth": 2})
    found = instant.of_config(config)
    rows = table.of(found)
    modules = [row.name for row in rows.modules if row.what == "output"]
    for i in range(2):
        for name in ("attention.query", "attention", "mlp.up", "mlp"):
            assert f"blocks.{i}.{name}" in modules
    # Inner modules end before outer ones, and layers in their order.
    assert modules.index("blocks.0.mlp.up") < modules.index("blocks.0") < modules.index("blocks.1")
    counts = [np.prod(row.of.shape) for row in rows.params if row.what == "parameter"]
    assert sum(counts) == sum(x.size for x in jax.tree.leaves(found.state.params))
    assert {row.what for row in rows.params} == {"parameter", "gradient", "update"}
    assert rows.finite
    said = table.text(rows.params, only="blocks.1.mlp.up")
    assert len(said.splitlines()) == 4


def test_statistics_leave_out_what_is_not_finite_and_count_it():
    of = table.statistics(jnp.asarray([0.0, 3.0, -4.0, jnp.nan, jnp.inf]))
    assert (of.mean, of.largest) == (pytest.approx(-1 / 3), 4.0)
    assert of.rms == pytest.approx((25 / 3) ** 0.5)
    assert (of.zeros, of.non_finite) == (0.2, 0.4)
    assert table.statistics(jnp.asarray([1e30], jnp.float32)).rms == pytest.approx(1e30)
