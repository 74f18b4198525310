"""What a run drew: joules and grams of CO2, by a meter where there was one, else by power and time.

Power times time times PUE, as Lannelongue et al. 2021 (arXiv 2007.07610, eq. 1) reckon it, without
their share for memory. An estimate takes every device to draw what its data sheet allows, from the
first second of a process to its last: of an idle or a starved device it is too much. Called by the
tables.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaling.config import RunConfig
from scaling.devices import chips

CORE_WATTS = 12.0  # of a core of a CPU, where nothing is known of it (Lannelongue et al. 2021)
KWH = 3.6e6  # joules


@dataclass(frozen=True)
class Energy:
    """Of one run; of a packed group its share."""

    joules: float
    grams: float  # of CO2
    by: str  # who says so: a meter, or what was reckoned


def of_run(
    config: RunConfig, status: Mapping[str, Any], made_by: Mapping[str, Any], cores: int | None
) -> Energy | None:
    """What a run drew so far.

    Args:
      config: its `energy` counts.
      status: `joules` and `joules_by`, where a meter was read; else `seconds`, of its group.
      made_by: device_kind, device_count, members.
      cores: that a process had, on CPUs; None: not known.

    None for a run without time, and on devices of which no power is known.
    """
    own, measured = config.energy, status.get("joules")
    if measured is not None:
        joules, by = own.pue * measured, str(status.get("joules_by"))
    else:
        seconds, kind = status.get("seconds"), made_by.get("device_kind") or ""
        count, what = made_by.get("device_count", 1), kind
        if kind == "cpu":
            count, what = cores, "core" if cores == 1 else "cores"
        chip = chips.of_device(kind)
        watts = own.watts or (CORE_WATTS if kind == "cpu" else chip and chip.watts)
        if not seconds or not watts or not count:
            return None
        joules = own.pue * watts * count * seconds / made_by.get("members", 1)
        by = f"estimate: {count} {what} at {watts:g} W"
    by += f", PUE {own.pue:g}" if own.pue != 1 else ""
    return Energy(joules, joules / KWH * own.grams_per_kwh, by)
