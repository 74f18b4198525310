"""The table of slices: every name of a slice leads to it, and its numbers agree with each other.

What xpk makes of the names is in tests/executors/test_xpk.py, gcloud in test_gcloud.py.
"""

import pytest

from scaling.devices import slices
from scaling.errors import ConfigError

ALL = slices.all_slices()


@pytest.mark.parametrize(
    ("name", "count"), [("v5e:16x16", 256), ("v5p:4x4x8", 128), ("v4:2x2x1", 4), ("v6e:1x1", 1)]
)
def test_a_slice_has_the_chips_its_name_says(name, count):
    found = slices.find(name)
    assert found.name == name
    assert found.chips == count
    assert found.chip.dimensions == len(found.shape)


def test_every_name_of_a_slice_leads_back_to_it():
    for found in ALL:
        names = [found.name, found.xpk_type, *([found.accelerator] if found.is_listed else [])]
        assert [slices.find(name) for name in names] == [found] * len(names)


def test_an_accelerator_type_means_one_shape():
    listed = [found.accelerator for found in ALL if found.is_listed]
    assert len(listed) == len(set(listed))
    # Of the chips that come in one shape only, it is that one.
    for chip in {found.chip.name for found in ALL}:
        own = [found for found in ALL if found.chip.name == chip]
        counts = [found.chips for found in own]
        alone = [found for found in own if counts.count(found.chips) == 1]
        assert all(found.is_listed for found in alone if chip != "v4")


# Google's pages of v4, v5e, v5p and v6e, one row of each kind: cores are counted in the names of v4
# and v5p, chips in those of v5e and v6e; eight chips of v5e or v6e are one TPU VM, sixteen are
# four.
@pytest.mark.parametrize(
    ("accelerator", "topology", "chips", "vms"),
    [
        ("v4-8", "2x2x1", 4, 1),
        ("v4-16", "2x2x2", 8, 2),
        ("v4-512", "4x8x8", 256, 64),
        ("v4-4096", "8x16x16", 2048, 512),
        ("v5p-8", "2x2x1", 4, 1),
        ("v5p-64", "2x4x4", 32, 8),
        ("v5p-1024", "8x8x8", 512, 128),
        ("v5p-12288", "16x16x24", 6144, 1536),
        ("v5litepod-1", "1x1", 1, 1),
        ("v5litepod-8", "2x4", 8, 1),
        ("v5litepod-16", "4x4", 16, 4),
        ("v5litepod-256", "16x16", 256, 64),
        ("v6e-8", "2x4", 8, 1),
        ("v6e-32", "4x8", 32, 8),
    ],
)
def test_rows_of_the_published_tables(accelerator, topology, chips, vms):
    found = slices.find(accelerator)
    assert (found.topology, found.chips, found.vms) == (topology, chips, vms)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("v5e:16x15", "v5e:16x16"),
        ("v5e:32x32", "v5e:"),
        ("v5p:4x4x9", "v5p:4x4x8"),
        ("v5x:4x4", "v5e:4x4"),
        ("banana", "v4:2x2x1"),
        ("v5litepod-255", "v5litepod-256"),
        ("v5lite-16", "v5litepod-16"),
        ("v5p-4x4x9", "v5p-4x4x8"),
    ],
)
def test_an_unknown_slice_is_refused_with_the_nearest(name, near):
    with pytest.raises(ConfigError, match="is no TPU slice") as error:
        slices.find(name)
    assert near in str(error.value)
