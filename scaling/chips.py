"""What one accelerator can do, by the vendors' numbers, and the shapes of slices that TPUs come in.

A table, and the look-up by the name that jax gives a device (`of_device`); `scaling/slices.py` has
the names of slices. `scaling/costs.py` takes the denominator of MFU from it, `scaling/check` the
roofline and the memory. A CPU is not in it: its peak is measured. No jax in this file.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One device as jax counts them. Rates are of dense work, bandwidths in bytes a second."""

    name: str
    kinds: tuple[str, ...]  # what `device_kind` contains
    bfloat16: float  # FLOP/s
    int8: float | None  # operations/s
    fp8: float | None  # FLOP/s; None: not in hardware
    hbm_bytes: float  # that a program may use
    hbm_bandwidth: float
    link_bandwidth: float  # of one link of the interconnect, one way
    links: int  # of a chip: two a torus dimension (TPU); 1: a switch that joins all (GPU)
    chips_per_host: int
    network_bandwidth: float  # out of the slice (TPU) or the host (GPU), a chip's share, one way
    slices: tuple[str, ...] = ()  # shapes that can be rented, see `scaling/slices.py`
    wraps: int = 0  # a torus dimension that is a multiple of this closes to a ring; 0: none

    def peak(self, dtype: str) -> float:
        """Matmul FLOP/s in `dtype`. float32 as JAX runs it by default: in one bfloat16 pass on a
        TPU, in TF32 on a GPU, at half of the bfloat16 rate.
        """
        if dtype == "float32" and not self.is_tpu:
            return self.bfloat16 / 2
        return self.bfloat16

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
# what a link carries, some 10 % below the data sheet. v5e and v6e have 4 links, v4 and v5p have 6;
# a v5e or v6e dimension is a ring at 16 chips, a v4 or v5p dimension at every multiple of 4.
# GPU: NVIDIA's data sheets of A100 80GB SXM, H100 SXM and PCIe, H200 SXM, DGX B200; dense rates are
# half of the sparse ones; NVLink one way is half of what is advertised; the network is one port of
# 200 (A100) or 400 Gbit/s a GPU.
CHIPS = (
    Chip(
        name="v6e",
        kinds=("TPU v6",),
        bfloat16=918e12,
        int8=1836e12,
        fp8=None,
        hbm_bytes=31.25 * GIB,
        hbm_bandwidth=1638e9,
        link_bandwidth=90e9,
        links=4,
        chips_per_host=8,
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
        links=4,
        chips_per_host=8,
        network_bandwidth=3.125e9,
        slices=_FLAT,
        wraps=16,
    ),
    Chip(
        name="v5p",
        kinds=("TPU v5",),
        bfloat16=459e12,
        int8=918e12,
        fp8=None,
        hbm_bytes=95.74 * GIB,
        hbm_bandwidth=2765e9,
        link_bandwidth=90e9,
        links=6,
        chips_per_host=4,
        network_bandwidth=6.25e9,
        slices=_cubes(6144),
        wraps=4,
    ),
    Chip(
        name="v4",
        kinds=("TPU v4",),
        bfloat16=275e12,
        int8=275e12,
        fp8=None,
        hbm_bytes=30.75 * GIB,
        hbm_bandwidth=1228e9,
        link_bandwidth=45e9,
        links=6,
        chips_per_host=4,
        network_bandwidth=6.25e9,
        slices=_cubes(4096),
        wraps=4,
    ),
    Chip(
        name="B200",
        kinds=("B200",),
        bfloat16=2250e12,
        int8=4500e12,
        fp8=4500e12,
        hbm_bytes=180e9,
        hbm_bandwidth=8e12,
        link_bandwidth=900e9,
        links=1,
        chips_per_host=8,
        network_bandwidth=50e9,
    ),
    Chip(
        name="H200",
        kinds=("H200",),
        bfloat16=989e12,
        int8=1979e12,
        fp8=1979e12,
        hbm_bytes=141e9,
        hbm_bandwidth=4.8e12,
        link_bandwidth=450e9,
        links=1,
        chips_per_host=8,
        network_bandwidth=50e9,
    ),
    Chip(
        name="H100 PCIe",
        kinds=("H100 PCIe",),
        bfloat16=756e12,
        int8=1513e12,
        fp8=1513e12,
        hbm_bytes=80e9,
        hbm_bandwidth=2e12,
        link_bandwidth=64e9,
        links=1,
        chips_per_host=8,
        network_bandwidth=25e9,
    ),
    Chip(
        name="H100",
        kinds=("H100",),
        bfloat16=989e12,
        int8=1979e12,
        fp8=1979e12,
        hbm_bytes=80e9,
        hbm_bandwidth=3.35e12,
        link_bandwidth=450e9,
        links=1,
        chips_per_host=8,
        network_bandwidth=50e9,
    ),
    Chip(
        name="A100",
        kinds=("A100",),
        bfloat16=312e12,
        int8=624e12,
        fp8=None,
        hbm_bytes=80e9,
        hbm_bandwidth=2039e9,
        link_bandwidth=300e9,
        links=1,
        chips_per_host=8,
        network_bandwidth=25e9,
    ),
)


def of_device(kind: str) -> Chip | None:
    """The chip that jax calls `kind` (`device_kind`); None for one that is not in the table."""
    for chip in CHIPS:
        if any(name in kind for name in chip.kinds):
            return chip
    return None
