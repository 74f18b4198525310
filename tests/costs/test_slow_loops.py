"""Loops around convolutions are warned of on a CPU, and only there."""

import pytest

from configs import tiny, vision
from scaling.config import from_dict, override
from scaling.costs.counted import slow_loops
from scaling.studies import study


def of(config, **train):
    fields = {f"train.{name}": value for name, value in train.items()}
    return study.resolve(override(from_dict(config), fields))


@pytest.mark.parametrize("fields", [{"steps_per_call": 4}, {"microbatches": 2}])
def test_the_field_is_named(fields):
    ((name, count),) = fields.items()
    found = of(vision.get_config("debug"), **fields)
    assert f"train.{name}={count}" in slow_loops(found, "cpu")
    assert slow_loops(found, "gpu") is None


def test_nothing_is_said_of_others():
    assert slow_loops(of(vision.get_config("debug")), "cpu") is None
    assert slow_loops(of(tiny.get_config("debug"), steps_per_call=4), "cpu") is None
