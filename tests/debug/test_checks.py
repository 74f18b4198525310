"""Leaks, gradients, learning by heart, and two ways of computing: planted faults are named."""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
import pytest

from scaling.debug import causality, gradients, instant, overfit, parting
from scaling.models import blocks
from tests.debug import faults


@pytest.fixture(scope="module")
def healthy(tiny):
    return instant.of_config(tiny())


@pytest.fixture
def planted(tiny, monkeypatch):
    """`planted(fault)`: the first instant of a run whose MLP has the fault."""

    def make(name):
        monkeypatch.setattr(blocks, "MLP", getattr(faults, name))
        return instant.of_config(tiny())

    return make


def in_documents(found):
    """The same windows, cut into two documents each."""
    shape = found.batch["tokens"].shape
    segments = jnp.asarray(np.broadcast_to(np.arange(shape[1]) // 5 + 1, shape), jnp.int32)
    return dataclasses.replace(found, batch={**found.batch, "segment_ids": segments})


def test_a_causal_model_does_not_leak(healthy):
    assert causality.leaks(in_documents(healthy)) == []


def test_a_module_that_looks_ahead_is_named(planted):
    found = causality.leaks(planted("LooksAhead"))
    assert {leak.module for leak in found} == {"blocks.0.mlp"}
    first = found[0]
    assert (first.kind, first.changed) == ("LooksAhead", "tokens after position 4")
    assert first.position == 4  # the last that was not to change sees the next
    assert "LEAK in blocks.0.mlp (LooksAhead)" in causality.text(found)


def test_a_module_that_sees_another_document_is_named(planted):
    (leak,) = causality.leaks(in_documents(planted("AcrossDocuments")))
    assert leak.module == "blocks.0.mlp"
    assert leak.changed == "the first document of each window"
    assert leak.position == 5


@pytest.mark.slow
def test_right_gradients_agree_with_differences(healthy):
    found = gradients.check(healthy)
    assert {check.what for check in found} == {"output", "parameter"}
    # Central differences in float64: far below what float32 could tell.
    assert max(check.relative for check in found) < 1e-6
    assert all(abs(check.gradient) > 0 for check in found)


@pytest.mark.slow
def test_a_wrong_backward_pass_is_found(planted):
    found = gradients.check(planted("WrongBackward"))
    first = next(check for check in found if not check.right)
    assert first.name == "blocks.0.mlp.down"
    assert first.gradient / first.difference == pytest.approx(1.01, rel=1e-5)
    said = gradients.text(found)
    assert "between it and the output of blocks.0.mlp, which is right" in said


@pytest.mark.slow
def test_one_batch_is_learnt_by_heart(healthy):
    found = overfit.overfit(healthy)
    assert found.reached
    assert found.losses[-1] < 0.1 * found.losses[0]
    assert "by heart" in overfit.text(found)


@pytest.mark.slow
def test_what_does_not_learn_is_said(tiny):
    found = overfit.overfit(instant.of_config(tiny({"optim.peak_lr": 1e-6})), most=5)
    assert not found.reached
    assert len(found.losses) == 5
    assert "DOES NOT LEARN" in overfit.text(found)


def test_the_least_loss_is_that_of_equal_beginnings():
    batch = {
        "tokens": np.asarray([[1, 2, 3], [1, 2, 4], [5, 2, 3]]),
        "targets": np.asarray([[2, 3, 9], [2, 4, 9], [2, 3, 9]]),
        "loss_mask": np.ones((3, 3)),
    }
    # Of nine tokens two follow the beginning 1 2: one 3, one 4.
    assert overfit.least_loss(batch) == pytest.approx(2 * math.log(2) / 9)
    batch["loss_mask"][1, 1] = 0
    assert overfit.least_loss(batch) == 0
    # In another document the beginning is another one.
    batch["loss_mask"][1, 1] = 1
    batch["segment_ids"] = np.asarray([[1, 1, 1], [1, 2, 2], [1, 1, 1]])
    assert overfit.least_loss(batch) == 0


@pytest.mark.exhaustive
@pytest.mark.parametrize("other", ["eager", "float64", "bfloat16"])
def test_two_ways_of_computing_a_healthy_step_agree(healthy, other):
    found = parting.compare(healthy, other)
    assert found.first is None
    assert max(line.relative for line in found.lines) > 0  # but they are two programs
    assert [line.what for line in found.lines] == sorted(line.what for line in found.lines)[::-1]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("fault", "other"),
    [
        pytest.param("OtherEagerly", "eager", marks=pytest.mark.slow),
        ("LosesDigits", "bfloat16"),
        pytest.param("LosesDigits", "float64", marks=pytest.mark.slow),
    ],
)
def test_where_two_ways_part_first_is_named(planted, fault, other):
    first = parting.compare(planted(fault), other).first
    assert (first.name, first.what) == ("blocks.0.mlp", "output")
