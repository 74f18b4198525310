"""Which runs share a compiled program, and the numbers that it takes as arguments.

Both follow from the marks of the fields (`marks.traced`): such a field is a value, not a shape.
Called by the step, the packing of sweeps and the records of what programs cost. No jax in this
file.
"""

import dataclasses
from typing import Any

import numpy as np

from scaling.config.amounts import resolved, unique_field
from scaling.config.marks import traced_fields
from scaling.config.run import BeginsConfig, MixtureConfig, RunConfig

# Whose traced fields the step takes, and what stands before the name of each.
_GROUPS = {
    "optim": "",
    "objective": "",
    "transform": "",
    "distill": "distill_",
    "ewc": "ewc_",
    "federated": "",
}


def hparams(config: RunConfig) -> dict[str, np.generic]:
    """Every value of a resolved run that does not change the program of its step.

    Float32 scalars, but for `seed` (uint32). Lengths are in updates. What is None is not there.
    """
    steps, optim = resolved(config.train.steps), config.optim
    values: dict[str, Any] = {
        "warmup_steps": optim.warmup_steps,
        "decay_steps": round(optim.decay_fraction * steps),
        "total_steps": steps,
    }
    for group, before in _GROUPS.items():
        part = getattr(config, group)
        for name, mark in traced_fields(part):
            if mark.argument:
                values[before + name] = getattr(part, name)
    floats = {name: np.float32(value) for name, value in values.items() if value is not None}
    return floats | {"seed": np.uint32(config.seed)}


def program_of(config: RunConfig) -> RunConfig:
    """The run with every value that the program takes at a common one: runs that share a program
    are equal.

    What is off stays off, and what is on stays on: that is the program's.
    """
    groups: dict[str, Any] = {
        group: _shared(getattr(config, group)) for group in ("model", *_GROUPS)
    }
    # The schedule's lengths are arguments, and the seed.
    groups["optim"] = dataclasses.replace(groups["optim"], warmup_steps=0, warmup_fraction=None)
    groups["train"] = dataclasses.replace(config.train, steps=1, subset_seed=None)
    # Whose the examples are is the data's.
    groups["federated"] = dataclasses.replace(groups["federated"], skew=0.0)
    groups["begins"] = BeginsConfig()  # the state that the first update is given
    # As is what earlier tasks left there; and which rows a batch has.
    groups["ewc"] = dataclasses.replace(groups["ewc"], batches=1, decay=0.0)
    groups["mixture"] = MixtureConfig()
    return dataclasses.replace(config, seed=0, **groups)


def _shared(part: Any) -> Any:
    same = {name: mark.shared(getattr(part, name)) for name, mark in traced_fields(part)}
    return dataclasses.replace(part, **same)


def any_examples(config: RunConfig) -> Any:
    """The data of a run, whichever of their examples it draws and in which order: no program
    depends on that.
    """
    unique = unique_field(config.data).removeprefix("data.")
    same: dict[str, Any] = {unique: None, "seed": 0}
    return dataclasses.replace(config.data, **same)
