"""What one accelerator can do, by the vendors' numbers, and the shapes of slices that TPUs come in.

A table, the look-up by the name that jax gives a device (`of_device`), and what memory a device at
hand has (`memory_bytes`); `scaling/devices/slices.py` has the names of slices.
`scaling/costs/counts.py` takes the denominator of MFU from it, `scaling/check` the roofline and the
memory. A CPU is not in it: its peak is measured. No jax in this file.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One device as jax counts them. Rates are of dense work, bandwidths in bytes a second."""

    name: str
    kinds: tuple[str, ...]  # what `device_kind` contains, as whole words
    bfloat16: float  # FLOP/s
    int8: float | None  # operations/s
    fp8: float | None  # FLOP/s; None: not in hardware
    hbm_bytes: float  # that a program may use
    hbm_bandwidth: float
    link_bandwidth: float  # of one link of the interconnect, one way
    network_bandwidth: float  # out of the slice (TPU) or the host (GPU), a chip's share, one way
    watts: float | None = None  # that it may draw; None: not published
    slices: tuple[str, ...] = ()  # shapes that can be rented, see `scaling/devices/slices.py`
    wraps: int = 0  # chips along a torus dimension, or a multiple, that close to a ring; 0: none

    def peak(self, dtype: str) -> float:
        """Matmul FLOP/s in `dtype`: a config's `model.dtype`, "int8" or "fp8".

        float32 as JAX runs it by default: in one bfloat16 pass on a TPU, in TF32 on a GPU, at half
        of the bfloat16 rate. What is not in hardware runs in bfloat16.
        """
        if dtype == "float32" and not self.is_tpu:
            return self.bfloat16 / 2
        return {"int8": self.int8, "fp8": self.fp8}.get(dtype) or self.bfloat16

    def rings(self, shape: tuple[int, ...]) -> tuple[bool, ...]:
        """Whether each dimension of a slice of this shape closes to a ring.

        One of three dimensions is joined from whole cubes by switches: all of them close, or, in a
        part of a cube, none does.
        """
        closing = [bool(self.wraps) and size % self.wraps == 0 for size in shape]
        return tuple(closing) if len(shape) < 3 else (all(closing),) * len(shape)

    @property
    def dimensions(self) -> int:
        """Of the torus that joins a slice; 0 for what is not a TPU."""
        return self.slices[0].count("x") + 1 if self.slices else 0

    @property
    def is_tpu(self) -> bool:
        """Whether slices of it are named by a topology."""
        return bool(self.slices)


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")


def _cubes(most: int) -> tuple[str, ...]:
    """Shapes of three-dimensional slices of up to `most` chips: parts of a cube of 4x4x4, and
    blocks of whole cubes.
    """

    def blocks() -> Iterator[tuple[int, int, int]]:
        sides = range(4, 25, 4)
        for shape in ((x, y, z) for x in sides for y in sides for z in sides):
            if shape == tuple(sorted(shape)) and math.prod(shape) <= most:
                yield shape

    return (
        "2x2x1",
        "2x2x2",
        "2x2x4",
        "2x4x4",
        *("x".join(map(str, s)) for s in sorted(blocks(), key=lambda s: (math.prod(s), s))),
    )


# TPU: cloud.google.com/tpu/docs/v4, /v5e, /v5p, /v6e (compute, HBM bandwidth, slices, network a pod
# or chip). HBM is what the compiler of libtpu 0.0.42 lets a program use, a little less than is
# built in. Links: "How to Scale Your Model" (jax-ml.github.io/scaling-book), chapter 2, which gives
# what a link carries, some 10 % below the data sheet. v5e and v6e: four links a chip, and a
# dimension of 16 chips is a ring. v4 and v5p: six, and a slice is a torus where each dimension is a
# multiple of 4, else an open mesh (cloud.google.com/tpu/docs/v4, "3D mesh and 3D torus").
# GPU: NVIDIA's data sheets of A100 (40 and 80 GB, SXM and PCIe), H100 (SXM, PCIe, NVL), H200 (SXM,
# NVL), GH200, DGX B200, GB200 NVL72; dense rates are half of the sparse ones. A link is NVLink, one
# way (half of what is advertised), or, on a card, PCIe: a bridge joins two or four cards only. The
# network is one port of 200 (A100) or 400 Gbit/s a GPU; of cards two are taken to share one.
# Watts: the most that a card may be set to draw (GH200: with its CPU), by the same data sheets; of
# TPUs only v4's is published (Jouppi et al. 2023, arXiv 2304.01433, table 4).
_TPUS = (
    Chip(
        name="v6e",
        kinds=("TPU v6", "TPU v6e"),
        bfloat16=918e12,
        int8=1836e12,
        fp8=None,
        hbm_bytes=31.25 * GIB,
        hbm_bandwidth=1638e9,
        link_bandwidth=90e9,
        network_bandwidth=12.5e9,
        slices=_FLAT,
        wraps=16,
    ),
    Chip(
        name="v5e",
        kinds=("TPU v5 lite", "TPU v5e"),
        bfloat16=197e12,
        int8=393e12,
        fp8=None,
        hbm_bytes=15.75 * GIB,
        hbm_bandwidth=819e9,
        link_bandwidth=45e9,
        network_bandwidth=3.125e9,
        slices=_FLAT,
        wraps=16,
    ),
    Chip(
        name="v5p",
        kinds=("TPU v5", "TPU v5p"),
        bfloat16=459e12,
        int8=918e12,
        fp8=None,
        hbm_bytes=95.74 * GIB,
        hbm_bandwidth=2765e9,
        link_bandwidth=90e9,
        network_bandwidth=6.25e9,
        slices=_cubes(6144),
        wraps=4,
    ),
    Chip(
        name="v4",
        watts=192.0,
        kinds=("TPU v4",),
        bfloat16=275e12,
        int8=275e12,
        fp8=None,
        hbm_bytes=30.75 * GIB,
        hbm_bandwidth=1228e9,
        link_bandwidth=45e9,
        network_bandwidth=6.25e9,
        slices=_cubes(4096),
        wraps=4,
    ),
)
_B200 = Chip(
    name="B200",
    watts=1000.0,
    kinds=("B200",),
    bfloat16=2250e12,
    int8=4500e12,
    fp8=4500e12,
    hbm_bytes=180e9,
    hbm_bandwidth=8e12,
    link_bandwidth=900e9,
    network_bandwidth=50e9,
)
_GB200 = replace(
    _B200,
    name="GB200",
    watts=1200.0,
    kinds=("GB200",),
    bfloat16=2500e12,
    int8=5000e12,
    fp8=5000e12,
    hbm_bytes=186e9,
)
_H100 = Chip(
    name="H100",
    watts=700.0,
    kinds=("H100",),
    bfloat16=989e12,
    int8=1979e12,
    fp8=1979e12,
    hbm_bytes=80e9,
    hbm_bandwidth=3.35e12,
    link_bandwidth=450e9,
    network_bandwidth=50e9,
)
_H100_NVL = replace(
    _H100,
    name="H100 NVL",
    watts=400.0,
    kinds=("H100 NVL",),
    bfloat16=835e12,
    int8=1671e12,
    fp8=1671e12,
    hbm_bytes=94e9,
    hbm_bandwidth=3.9e12,
    link_bandwidth=64e9,
    network_bandwidth=25e9,
)
_H100_PCIE = replace(
    _H100,
    name="H100 PCIe",
    watts=350.0,
    kinds=("H100 PCIe",),
    bfloat16=756e12,
    int8=1513e12,
    fp8=1513e12,
    hbm_bandwidth=2e12,
    link_bandwidth=64e9,
    network_bandwidth=25e9,
)
_H200 = replace(_H100, name="H200", kinds=("H200",), hbm_bytes=141e9, hbm_bandwidth=4.8e12)
_A100 = Chip(
    name="A100",
    watts=400.0,
    kinds=("A100",),
    bfloat16=312e12,
    int8=624e12,
    fp8=None,
    hbm_bytes=80e9,
    hbm_bandwidth=2039e9,
    link_bandwidth=300e9,
    network_bandwidth=25e9,
)
_A100_PCIE = replace(
    _A100,
    name="A100 PCIe",
    watts=300.0,
    kinds=("A100 80GB PCIe",),
    hbm_bandwidth=1935e9,
    link_bandwidth=32e9,
    network_bandwidth=12.5e9,
)
_40GB: dict[str, Any] = {"hbm_bytes": 40e9, "hbm_bandwidth": 1555e9}

# Special forms before the plain one: the first that matches is taken.
CHIPS = (
    *_TPUS,
    _GB200,
    _B200,
    replace(
        _H100_NVL,
        name="H200 NVL",
        kinds=("H200 NVL",),
        hbm_bytes=141e9,
        hbm_bandwidth=4.8e12,
        watts=600.0,
    ),
    _H200,
    replace(
        _H200,
        name="GH200 144G",
        kinds=("GH200 144G",),
        watts=1000.0,
        hbm_bytes=144e9,
        hbm_bandwidth=4.9e12,
    ),
    replace(
        _H200, name="GH200", kinds=("GH200",), watts=1000.0, hbm_bytes=96e9, hbm_bandwidth=4e12
    ),
    _H100_NVL,
    _H100_PCIE,
    _H100,
    _A100_PCIE,
    replace(_A100_PCIE, name="A100 PCIe 40GB", kinds=("A100-PCIE-40GB",), watts=250.0, **_40GB),
    replace(_A100, name="A100 40GB", kinds=("A100-SXM4-40GB",), **_40GB),
    _A100,
)


def of_device(kind: str) -> Chip | None:
    """The chip that jax calls `kind` (`device_kind`); None for one that is not in the table."""
    for chip in CHIPS:
        if any(re.search(rf"\b{re.escape(name)}\b", kind) for name in chip.kinds):
            return chip
    return None


def memory_bytes(device: Any) -> float | None:
    """Bytes that a program may use on an accelerator at hand (a `jax.Device`); None: not known.

    What its runtime says (on a GPU the part that jax takes, three quarters by default), else the
    table.
    """
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return float(stats["bytes_limit"])
    chip = of_device(device.device_kind)
    return None if chip is None else chip.hbm_bytes
