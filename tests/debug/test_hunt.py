"""The first operation that is not finite: planted faults are named with module and line."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.debug import hunt, instant, mistakes
from scaling.models import blocks
from tests.debug import faults

FOUND = {
    # fault: fields, operation, whether in the backward pass, what it makes, source line
    "LogOfZero": ({}, "log", False, "infinity", "jnp.log(p_BxLxD)"),
    "DividesBackward": ({}, "div", True, "infinity", "dy / (x - x)"),
    "Overflows": ({"model.dtype": "bfloat16"}, "mul", False, "infinity", "* huge * huge"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FOUND)
def test_a_planted_fault_is_named(tiny, monkeypatch, name):
    fields, operation, backward, what, source = FOUND[name]
    monkeypatch.setattr(blocks, "MLP", getattr(faults, name))
    found = hunt.hunt(instant.of_config(tiny(fields)))
    fault = found.fault
    assert fault is not None
    assert (fault.operation.name, fault.backward, fault.what) == (operation, backward, what)
    assert fault.module == "blocks.0.mlp"
    file, number, _ = fault.operation.line()
    assert file == faults.__file__
    assert source in inspect.getsource(faults).splitlines()[number - 1]
    # What it made of what: finite numbers in, others out.
    assert all(of.non_finite == 0 for of in fault.inputs)
    assert fault.output.non_finite > 0
    if name == "Overflows":
        assert fault.output.dtype == "bfloat16"
    said = hunt.text(found)
    assert f"faults.py:{number}, in " in said
    assert f"{operation} in blocks.0.mlp, {'backward' if backward else 'forward'} pass" in said


@pytest.mark.exhaustive
def test_what_a_where_discards_is_no_fault(tiny, monkeypatch):
    """The logarithm is infinite, and so is nothing that the loss is made of; but its gradient is
    0 * infinity, the well-known trap."""
    monkeypatch.setattr(blocks, "MLP", faults.DiscardedLog)
    found = hunt.hunt(instant.of_config(tiny()))
    assert "loss" not in found.results
    assert found.fault.backward
    assert found.fault.what == "NaN"
    assert found.fault.module == "blocks.0.mlp"


def test_a_mask_is_no_fault_and_what_no_result_carries_is_counted():
    def masked(x):
        scores = jnp.where(x > 0, x, -jnp.inf)
        return jax.nn.softmax(scores), jnp.where(x < jnp.inf, 0.0, jnp.log(x * 0))

    found = hunt.first_fault(masked, jnp.asarray([1.0, -1.0, 2.0]))
    assert found.fault is None
    assert found.results == ()
    assert found.harmless == 1  # the logarithm


def test_the_turn_of_a_loop_is_named():
    def turns(x):
        return jax.lax.scan(lambda c, d: (c / d, c), x, jnp.asarray([1.0, 2.0, 0.0, 1.0]))

    found = hunt.first_fault(turns, jnp.float32(1.0))
    assert found.fault.operation.name == "div"
    assert found.fault.operation.turns == ("turn 3 of 4",)


def test_branches_while_loops_and_calls_are_entered():
    @jax.checkpoint
    def inner(x):
        return jnp.where(x > 1e3, x * jnp.float32(1e38), x)

    def program(x):
        x = jax.lax.while_loop(lambda x: x < 100, lambda x: x * 2, x)
        x = jax.lax.cond(x > 100, lambda x: inner(x * 10), lambda x: x, x)
        return jax.jit(jnp.sqrt)(x) - 1

    found = hunt.first_fault(program, jnp.float32(1.0))
    assert found.fault.operation.name == "mul"
    assert hunt.first_fault(program, jnp.float32(100.0)).fault is None


def test_what_was_not_finite_before_the_step_is_said():
    found = hunt.first_fault(lambda x, y: x["a"] + y, {"a": jnp.float32(np.nan)}, jnp.float32(1))
    assert found.given == ("0.a",)
    assert found.fault is None
    assert "already before this step: 0.a" in hunt.text(found)


def test_a_shape_error_names_module_line_and_shapes(tiny, monkeypatch):
    monkeypatch.setattr(blocks, "MLP", faults.WrongShape)
    with pytest.raises(mistakes.ModelError) as error, mistakes.reported():
        instant.of_config(tiny())
    said = str(error.value)
    lines = inspect.getsource(faults).splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "+ 1, 4)" in line)
    assert f"faults.py:{number}, in " in said
    assert "mlp (WrongShape)" in said.splitlines()[0]
    assert "input 0: 1x16x16 float32" in said
    assert "parameter up.w" in said
