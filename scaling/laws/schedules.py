"""The loss curve of a run from its learning-rate schedule: multi-power law, annealing momentum.

The table has one row a logged step of a run (columns run, step, lr); the laws see, for each row,
the learning rate summed so far and every fall of the learning rate before it. Between logged steps
the learning rate is taken to be that of the next row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from scaling.laws.later import jnp
from scaling.laws.law import Law, Parameter, Values, power

FALLS = 48  # falls of the learning rate that are kept apart; finer schedules are merged


def schedule_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the law reads, from run, step and lr [rows].

    Gives `lr_sum` [rows], and per fall k before the row: `fall` (lr lost), `lr_after`, `since` (lr
    summed since), `steps` (counted since) [rows, falls]; unused entries have fall 0.
    """
    run, step, lr = (np.asarray(columns[k], float) for k in ("run", "step", "lr"))
    rows = len(step)
    total = np.zeros(rows)
    fall, after, since, steps = (np.zeros((rows, FALLS)) for _ in range(4))
    after += 1.0
    for label in np.unique(run):
        mine = np.flatnonzero(run == label)
        mine = mine[np.argsort(step[mine], kind="stable")]
        rate, length = lr[mine], np.diff(step[mine], prepend=0.0)
        summed = np.cumsum(rate * length)
        total[mine] = summed
        peak = int(np.argmax(rate))
        lost = np.concatenate([[0.0], rate[:-1] - rate[1:]])
        places = np.flatnonzero((lost > 0) & (np.arange(len(mine)) > peak))
        for slot, group in enumerate(np.array_split(places, min(FALLS, max(1, len(places))))):
            if not len(group):
                continue
            share = lost[group] / lost[group].sum()
            before = np.sum(share * (summed - rate * length)[group])
            fall[mine, slot] = np.where(
                np.arange(len(mine)) >= group[-1], lost[group].sum(),
                np.cumsum(np.bincount(group, lost[group], minlength=len(mine))),
            )  # fmt: skip
            after[mine, slot] = max(float(np.sum(share * rate[group])), 1e-12 * rate[peak])
            since[mine, slot] = np.maximum(summed - before, 0.0)
            fell = np.sum(share * (step[mine] - length)[group])
            steps[mine, slot] = np.maximum(step[mine] - fell, 0.0)
    return {"lr_sum": total, "fall": fall, "lr_after": after, "since": since, "steps": steps}


def _multi_power(p: Values, c: Values) -> Any:
    steady = p["E"] + p["A"] * power(c["lr_sum"], -p["alpha"])
    # 1 - (1 + C x)^-beta, written so that x = 0 has finite derivatives
    reach = p["C"] * c["since"] * power(c["lr_after"], -p["gamma"])
    gained = -jnp.expm1(-p["beta"] * jnp.log1p(reach))
    return steady - p["B"] * jnp.sum(c["fall"] * gained, axis=-1)


MULTI_POWER = Law(
    "multi_power",
    "E + A / S^alpha - B sum_k (lr_(k-1) - lr_k) (1 - (1 + C lr_k^-gamma S_k)^-beta); S the sum of "
    "the learning rate, S_k that since its k-th fall",
    ("lr_sum", "fall", "lr_after", "since"),
    (Parameter("E", link="identity", linear=True), Parameter("A", linear=True),
     Parameter("B", linear=True), Parameter("alpha", grid=(0.2, 0.5, 1.0), link="identity", high=5),
     Parameter("C", grid=(0.1, 1.0, 10.0), low=1e-6, high=1e6),
     Parameter("beta", grid=(0.3, 0.8), link="identity", low=1e-3, high=5),
     Parameter("gamma", grid=(0.3, 0.8), link="identity", low=0.0, high=5)),
    _multi_power, "Luo et al. 2025 (arXiv 2503.12811), eq. 1", exponents=("alpha",), floor="E",
    prepare=schedule_columns, needs=("run", "step", "lr"), labels=("run",), zeros=("lr",),
)  # fmt: skip


def _annealing(p: Values, c: Values) -> Any:
    # The momentum of a fall, summed over n steps: (1 - keep^n) / (1 - keep).
    gained = -jnp.expm1(c["steps"] * jnp.log(p["keep"])) / (1 - p["keep"])
    steady = p["E"] + p["A"] * power(c["lr_sum"], -p["alpha"])
    return steady - p["C"] * jnp.sum(c["fall"] * gained, axis=-1)


ANNEALING = Law(
    "annealing",
    "E + A / S^alpha - C M; S the sum of the learning rate, M the sum of its momentum m_s = keep "
    "m_(s-1) + lr_(s-1) - lr_s",
    ("lr_sum", "fall", "steps"),
    (Parameter("E", link="identity", linear=True), Parameter("A", linear=True),
     Parameter("C", linear=True, link="identity", low=-1e9),
     Parameter("alpha", grid=(0.2, 0.5, 1.0), link="identity", high=5)),
    _annealing, "Tissue et al. 2024 (arXiv 2408.11029), eq. 1", exponents=("alpha",), floor="E",
    prepare=schedule_columns, needs=("run", "step", "lr"), labels=("run",), zeros=("lr",),
    constants={"keep": 0.999},
)  # fmt: skip
