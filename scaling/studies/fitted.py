"""Hyper-parameters from laws that were fitted: the best learning rate and batch of each run.

Takes overrides, of a ladder or a list, and the files that `launch.py fit --out` wrote for the laws
of `scaling/laws/tuning.py`; gives the same overrides with the law's values at each run's size and
length. Called by studies in `experiments/`. No jax in this file.
"""

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.config import RunConfig, amounts, override
from scaling.config.sweep import Override
from scaling.costs import sizes
from scaling.errors import UserError
from scaling.studies import study


@dataclass(frozen=True)
class Powers:
    """scale times a power of each column."""

    scale: float
    exponents: Mapping[str, float]  # by column: "params", "tokens", "flops"

    def at(self, columns: Mapping[str, float]) -> float:
        """Its value for a run of these columns."""
        return self.scale * math.prod(columns[name] ** x for name, x in self.exponents.items())


def read(path: str | pathlib.Path, target: str) -> Powers:
    """The law in a fit.json, or in the folder of one.

    Args:
      target: what it must predict, "lr" or "batch".

    Raises UserError for a file that is none, that predicts something else, or whose formula is not
    a product of powers.
    """
    file = pathlib.Path(path)
    file = file / "fit.json" if file.is_dir() else file
    try:
        found = json.loads(file.read_text())
        law, formula, params = found["law"], found["formula"], found["params"]
        loss = found["loss"]
    except OSError:
        raise UserError(f"{file}: no such fit; `launch.py fit --out=DIR` writes one") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{file} is no fit.json of `launch.py fit`") from None
    known = {"params", "tokens", "flops"}
    powers = [term.partition("^") for term in formula.split()[1:]]
    exponents = {column: params.get(name, math.nan) for column, _, name in powers}
    if (
        loss != target
        or not exponents.keys() <= known
        or not math.isfinite(sum(exponents.values()))
    ):
        raise UserError(
            f"{file} holds {law}, {loss} = {formula}; give a fit of best_{target} or of one of its "
            f"kin, a power of {', '.join(sorted(known))}"
        )
    return Powers(params["k"], exponents)


def fitted(
    overrides: Sequence[Override],
    base: RunConfig,
    lr: str | pathlib.Path | None = None,
    batch: str | pathlib.Path | None = None,
) -> list[Override]:
    """The overrides with the peak learning rate and the batch of the fits.

    A batch in units is so many rows as the power of two that is nearest by ratio. A run keeps its
    length in units: one that is given in steps is refused with a batch.

    Args:
      overrides: of `base`.
      lr: fit.json of a law of `lr`; None: as the overrides have it.
      batch: likewise of `batch`, in units a step.

    Raises UserError as `read`, ConfigError for runs that cannot be.
    """
    rate = None if lr is None else read(lr, "lr")
    rows = None if batch is None else read(batch, "batch")
    return [dict(one) | _values(override(base, dict(one)), rate, rows) for one in overrides]


def _values(config: RunConfig, rate: Powers | None, rows: Powers | None) -> dict[str, Any]:
    if rows is not None and config.train.steps is not None:
        raise UserError(
            f"train.steps={config.train.steps}: the batch of a fit would change how much the run "
            "reads; give its length in units, or in units a parameter"
        )
    resolved = study.resolve_planned(config)
    size, units = sizes.size(resolved), amounts.units(resolved)
    columns = {
        "params": float(size.params),
        "tokens": float(units),
        "flops": size.flops_per_unit * units,
    }
    values: dict[str, Any] = {}
    if rate is not None:
        values["optim.peak_lr"] = rate.at(columns)
    if rows is not None:
        examples = rows.at(columns) / config.data.units_per_example
        values["train.batch_size"] = 2 ** max(0, round(math.log2(examples)))
    return values
