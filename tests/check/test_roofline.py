"""Seconds by hand: what a collective, a matmul and a byte of memory take."""

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from scaling import slices as slices_lib
from scaling.check import program as program_lib
from scaling.check import roofline
from scaling.check.target import Target

V5E = slices_lib.find("v5e:16x16")
LINK, NETWORK = 45e9, 3.125e9  # bytes/s one way: the table's
GROUP_X = tuple(range(0, 256, 16))  # 16 chips along the first dimension


@dataclass(frozen=True)
class Place:
    """What the roofline asks of a device."""

    coords: tuple[int, int, int]
    slice_index: int = 0


def target(slices: int = 1, topology: slices_lib.Slice = V5E) -> Target:
    """Slices whose devices are numbered row by row."""
    x, y = topology.shape
    places = [Place((i, j, 0), s) for s in range(slices) for i in range(x) for j in range(y)]
    return Target("test", places, topology.chip, topology.shape, slices)


def mesh(target: Target, **axes: int) -> SimpleNamespace:
    """Of the target's devices, in their order."""
    grid = np.empty(len(target.devices), dtype=object)
    grid[:] = target.devices
    return SimpleNamespace(shape=axes, devices=grid.reshape(tuple(axes.values())))


def row(collective: program_lib.Collective, where: Target, **axes: int) -> roofline.Traffic:
    (found,) = roofline.traffic([collective], mesh(where, **axes), where)
    return found


@pytest.mark.parametrize(
    ("kind", "passes"), [("all-gather", 1), ("reduce-scatter", 1), ("all-reduce", 2)]
)
def test_a_ring_sends_each_share_past_every_other_device(kind, passes):
    one_second = 16 / 15 * 2 * LINK  # a dimension of 16 is a ring: two links
    found = row(program_lib.Collective(kind, 3, one_second, GROUP_X), target(), data=16, fsdp=16)
    assert found.axes == ("data",)
    assert found.count == 3
    assert found.bytes == 3 * one_second
    assert found.link_seconds == pytest.approx(3 * passes)
    assert found.network_seconds == 0


def test_a_group_over_both_dimensions_has_all_links():
    everyone = tuple(range(256))
    found = row(
        program_lib.Collective("all-gather", 1, 256 / 255 * 4 * LINK, everyone), target(), fsdp=256
    )
    assert found.link_seconds == pytest.approx(1)


def test_an_open_line_has_one_link():
    small = target(topology=slices_lib.find("v5e:2x4"))
    found = row(
        program_lib.Collective("all-gather", 1, 4 / 3 * LINK, (0, 1, 2, 3)), small, data=2, fsdp=4
    )
    assert found.link_seconds == pytest.approx(1)


def test_opposite_rings_share_no_link():
    right = tuple((i, (i + 1) % 16) for i in range(16))
    left = tuple((b, a) for a, b in right)
    both = [program_lib.Collective("collective-permute", 2, LINK, p[0], p) for p in (right, left)]
    where = target()
    (found,) = roofline.traffic(both, mesh(where, data=16, seq=16), where)
    assert (found.count, found.bytes, found.axes) == (4, 4 * LINK, ("seq",))
    assert found.link_seconds == pytest.approx(2)
    (one,) = roofline.traffic(both[:1], mesh(where, data=16, seq=16), where)
    assert one.link_seconds == pytest.approx(2)


def test_between_slices_each_device_sends_its_share_over_the_network():
    two = target(slices=2)
    axes = {"replica": 2, "fsdp": 256}
    found = row(program_lib.Collective("all-reduce", 1, NETWORK, (0, 256)), two, **axes)
    assert found.axes == ("replica",)
    assert found.link_seconds == 0
    assert found.network_seconds == pytest.approx(2 * 1 / 2)  # half of it, there and back
    whole = row(
        program_lib.Collective("all-reduce", 1, 256 * NETWORK, tuple(range(512))), two, **axes
    )
    assert whole.network_seconds == pytest.approx(1)
    assert whole.link_seconds == pytest.approx(2 * 255 / 256 * 256 * NETWORK / (4 * LINK))


def test_a_step_takes_between_the_longest_resource_and_their_sum():
    rows = [
        roofline.Traffic("all-gather", ("fsdp",), 16, 1, 0.0, 0.5, 0.0),
        roofline.Traffic("reduce-scatter", ("fsdp",), 16, 1, 0.0, 0.25, 0.0),
        roofline.Traffic("all-reduce", ("replica",), 2, 1, 0.0, 0.0, 0.125),
    ]
    program = program_lib.Program((), memory_traffic=2 * 819e9, open_loops=0)
    found = roofline.roofline(3 * 197e12, 197e12, program, rows, V5E.chip)
    assert (found.compute, found.memory, found.network) == (3.0, 2.0, 0.125)
    assert found.links == {"fsdp": 0.75}
    assert found.overlapped == 3.0
    assert found.serial == 3.0 + 0.75 + 0.125
    assert found.bound == "compute"


def test_a_device_that_is_not_in_the_table_has_no_times():
    unknown = Target("abacus", target().devices, None)
    found = row(program_lib.Collective("all-gather", 1, 1.0, GROUP_X), unknown, data=16, fsdp=16)
    assert (found.link_seconds, found.network_seconds) == (None, None)
    program = program_lib.Program((), 1.0, 0)
    times = roofline.roofline(1.0, None, program, [found], None)
    assert times.overlapped is times.serial is None
