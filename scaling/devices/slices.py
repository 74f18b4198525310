"""The slices that TPUs come in, and what each is called: by jax, by gcloud, by xpk.

One table serves `launch.py check`, which compiles for a slice, and `launch.py sweep`, which rents
one. `find` reads any of the names; a `Slice` gives the others, its chips and its hosts. Shapes and
rates of the chips are in `scaling/devices/chips.py`. No jax in this file.
"""

import functools
import math
from dataclasses import dataclass

from scaling.devices import chips
from scaling.errors import ConfigError, nearest


@dataclass(frozen=True)
class _Family:
    """What Google calls the slices of one chip."""

    prefix: str  # of accelerator types, as in v5litepod-16
    counted: int  # what the number of an accelerator type counts in a chip: TensorCores, or chips
    runtime: str  # of a TPU VM that is to run jax
    on_gke: str  # value of the node selector cloud.google.com/gke-tpu-accelerator
    most_on_one: int  # chips of the largest slice that is a single TPU VM
    least_on_gke: int  # chips of the smallest slice that xpk knows
    # Shapes that an accelerator type means where several have as many chips; (): the most compact.
    listed: tuple[str, ...] = ()


# Accelerator types, shapes and hosts: cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e; runtimes:
# cloud.google.com/tpu/docs/runtimes; node selectors: cloud.google.com/kubernetes-engine/docs/
# concepts/plan-tpus. What xpk makes of its names is read back from xpk itself (`make test-xpk`).
_FAMILIES = {
    "v4": _Family(
        prefix="v4",
        counted=2,
        runtime="tpu-ubuntu2204-base",
        on_gke="tpu-v4-podslice",
        most_on_one=4,
        least_on_gke=4,
        listed=(
            *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
            *("8x8x8", "8x8x12", "8x8x16", "8x16x16"),
        ),
    ),
    "v5e": _Family(
        prefix="v5litepod",
        counted=1,
        runtime="v2-alpha-tpuv5-lite",
        on_gke="tpu-v5-lite-podslice",
        most_on_one=8,
        least_on_gke=8,
    ),
    "v5p": _Family(
        prefix="v5p",
        counted=2,
        runtime="v2-alpha-tpuv5",
        on_gke="tpu-v5p-slice",
        most_on_one=4,
        least_on_gke=4,
    ),
    "v6e": _Family(
        prefix="v6e",
        counted=1,
        runtime="v2-alpha-tpuv6e",
        on_gke="tpu-v6e-slice",
        most_on_one=8,
        least_on_gke=1,
    ),
}


@dataclass(frozen=True)
class Slice:
    """TPUs that are joined to one torus."""

    chip: chips.Chip
    shape: tuple[int, ...]  # chips along each dimension of the torus

    @property
    def _family(self) -> _Family:
        return _FAMILIES[self.chip.name]

    @property
    def name(self) -> str:
        """v5e:4x4, as jax's compiler takes it."""
        return f"{self.chip.name}:{self.topology}"

    @property
    def topology(self) -> str:
        """4x4."""
        return "x".join(map(str, self.shape))

    @property
    def chips(self) -> int:
        """How many."""
        return math.prod(self.shape)

    @property
    def accelerator(self) -> str:
        """v5litepod-16: gcloud's --accelerator-type. v4 and v5p count TensorCores, two a chip."""
        return f"{self._family.prefix}-{self.chips * self._family.counted}"

    @property
    def is_listed(self) -> bool:
        """Whether the accelerator type means this shape; else the shape must be named as well."""
        if self._family.listed:
            return self.topology in self._family.listed
        alike = [s for s in _of_chip(self.chip) if s.chips == self.chips]
        return sum(self.shape) == min(sum(s.shape) for s in alike)

    @property
    def prefix(self) -> str:
        """v5litepod: gcloud's --type, where --topology is given."""
        return self._family.prefix

    @property
    def xpk_type(self) -> str:
        """v5litepod-4x4: xpk's --tpu-type, in the form that leaves no doubt of the shape."""
        return f"{self.prefix}-{self.topology}"

    @property
    def runtime(self) -> str:
        """The software of a plain TPU VM."""
        return self._family.runtime

    @property
    def vms(self) -> int:
        """Hosts, and so processes, of the slice as plain TPU VMs: one, or one for four chips."""
        return 1 if self.chips <= self._family.most_on_one else self.chips // 4

    @property
    def gke_accelerator(self) -> str:
        """The node selector of GKE."""
        return self._family.on_gke

    @property
    def nodes(self) -> int:
        """Hosts of the slice in a cluster that xpk has made: four chips each, or the one."""
        return max(1, self.chips // 4)

    @property
    def on_gke(self) -> bool:
        """Whether xpk can ask for it."""
        return self.chips >= self._family.least_on_gke


def _of_chip(chip: chips.Chip) -> list[Slice]:
    return [Slice(chip, tuple(int(size) for size in shape.split("x"))) for shape in chip.slices]


def all_slices() -> list[Slice]:
    """Every slice there is, chip by chip, small ones first."""
    return [found for chip in chips.CHIPS for found in _of_chip(chip)]


def find(name: str, field: str = "--topology") -> Slice:
    """The slice of a name: "v5e:16x16" as jax has it, "v5litepod-256" as gcloud, "v5litepod-16x16"
    as xpk.

    Args:
      field: what was given, for the error.

    Raises ConfigError, naming the nearest that there is.
    """
    known = _names()
    if name in known:
        return known[name]
    form = "-" if "-" in name else ":"
    alike = [k for k in known if form in k]
    family = [k for k in alike if k.partition(form)[0] == name.partition(form)[0]]
    hint = nearest(name, family or alike)
    count = name.rpartition("-")[2]
    if form == "-" and family and count.isdigit():  # near in size, not in letters
        sizes = {int(n): k for k in family if (n := k.rpartition("-")[2]).isdigit()}
        hint = f' (did you mean "{sizes[min(sizes, key=lambda n: abs(n - int(count)))]}"?)'
    raise ConfigError(f"{field}={name} is no TPU slice{hint}")


@functools.cache
def _names() -> dict[str, Slice]:
    names: dict[str, Slice] = {}
    for found in all_slices():
        names |= {found.name: found, found.xpk_type: found}
        if found.is_listed:
            names[found.accelerator] = found
    return names
