"""How large a resolved run is, and what it costs: parameters, FLOPs, amounts of data.

By the family's closed formula where it has one (no jax then), else counted from its program. The
plans of sweeps, the trainer's MFU and a run's record ask it.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

from scaling.config import RunConfig, amounts, choices
from scaling.config.contracts import Size
from scaling.config.teacher import teacher


def size(config: RunConfig) -> Size:
    """Parameters, and training FLOPs a unit of data, of a run whose model is resolved.

    Training is 3 times the forward pass: each matmul and convolution has two of its size in the
    backward pass. What the program skips or computes again changes nothing. Where examples are
    attacked, each step of that is a forward pass more, and one back to the inputs. A teacher is a
    forward pass of its own model. A student that is taught on its own text writes it, which is a
    forward pass, and is trained on it beside the data.
    """
    model: Any = config.model
    data: Any = config.data
    found = _size(model, data)
    if config.distill.weight:
        more = _size(teacher(config), data).flops_per_unit / 3
        more += (4 / 3 if config.distill.on_policy else 0.0) * found.flops_per_unit
        found = replace(found, flops_per_unit=found.flops_per_unit + more)
    if not config.attack.epsilon:
        return found
    times = 1 + 2 / 3 * config.attack.steps
    return replace(found, flops_per_unit=times * found.flops_per_unit)


@functools.lru_cache(maxsize=4096)
def _size(model: Any, data: Any) -> Size:
    closed = choices.family(model).size
    if closed is not None:
        return closed(model, data)
    from scaling.costs.counted import counted

    return counted(model, data)


@functools.lru_cache(maxsize=4096)
def _params_trained(model: Any, data: Any, transform: Any) -> int:
    from scaling.costs.counts import params_trained

    return params_trained(RunConfig(model=model, data=data, transform=transform))


def conventions(config: RunConfig) -> dict[str, float]:
    """Training FLOPs a unit by every convention in use, so that numbers of others compare; of them
    "matmul" is what `size` counts.
    """
    of_family = choices.family(config.model).conventions
    if of_family is None:
        return {"matmul": size(config).flops_per_unit}
    return of_family(config.model, config.data)


@dataclass(frozen=True)
class RunCost:
    """What a resolved run is and costs; in its config.json under "size"."""

    params: int  # all
    params_non_embedding: int  # see Size
    params_active: int  # see Size
    flops_per_unit: float  # of training
    unit: str  # what the data are counted in
    amount: int  # units of training, repeats counted
    flops: float  # of training


def cost(config: RunConfig) -> RunCost:
    """Parameters, amount of data and FLOPs of a whole resolved run."""
    counts, amount = size(config), amounts.units(config)
    return RunCost(
        params=counts.params,
        params_non_embedding=counts.params_non_embedding,
        params_active=counts.params_active,
        flops_per_unit=counts.flops_per_unit,
        unit=config.data.unit,
        amount=amount,
        flops=amount * counts.flops_per_unit,
    )


def step_flops(config: RunConfig) -> float:
    """Training FLOPs of one update."""
    return amounts.units_per_step(config) * size(config).flops_per_unit


def as_record(config: RunConfig) -> dict[str, Any]:
    """`cost` as the record of a run has it; the amount once more under its unit's name; and how
    many parameters are trained, where those are not all.
    """
    found = cost(config)
    trained = {}
    if choices.transform(config.transform).functions is not None:
        parts: tuple[Any, ...] = (config.model, config.data, config.transform)
        trained = {"params_trained": _params_trained(*parts)}
    return vars(found) | {f"{found.unit}s": found.amount} | trained
