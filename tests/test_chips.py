"""The table of chips: peaks by the name that jax gives, slices by theirs."""

import pytest

from scaling import chips
from scaling.errors import ConfigError


@pytest.mark.parametrize(
    ("kind", "bfloat16", "float32"),
    [
        ("TPU v4", 275e12, 275e12),
        ("TPU v5 lite", 197e12, 197e12),
        ("TPU v5", 459e12, 459e12),
        ("TPU v6 lite", 918e12, 918e12),
        ("NVIDIA A100-SXM4-80GB", 312e12, 156e12),
        ("NVIDIA H100 80GB HBM3", 989e12, 494.5e12),
        ("NVIDIA H100 PCIe", 756e12, 378e12),
        ("NVIDIA H200", 989e12, 494.5e12),
        ("NVIDIA B200", 2250e12, 1125e12),
    ],
)
def test_peaks_are_those_of_the_data_sheets(kind, bfloat16, float32):
    chip = chips.of_device(kind)
    assert chip is not None
    assert (chip.peak("bfloat16"), chip.peak("float32")) == (bfloat16, float32)


def test_a_device_that_is_not_in_the_table_has_no_numbers():
    assert chips.of_device("an abacus") is None


@pytest.mark.parametrize(
    ("name", "count"), [("v5e:16x16", 256), ("v5p:4x4x8", 128), ("v4:2x2x1", 4), ("v6e:1x1", 1)]
)
def test_a_slice_has_the_chips_its_name_says(name, count):
    found = chips.topology(name)
    assert found.name == name
    assert found.chips == count
    # A torus dimension has a link to either side.
    assert found.chip.links == 2 * len(found.shape)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("v5e:16x15", "v5e:16x16"),
        ("v5e:32x32", "v5e:"),
        ("v5p:4x4x9", "v5p:4x4x8"),
        ("v5x:4x4", "v5e:4x4"),
        ("banana", "v4:2x2x1"),
    ],
)
def test_an_unknown_slice_is_refused_with_the_nearest(name, near):
    with pytest.raises(ConfigError, match="is no TPU slice") as error:
        chips.topology(name)
    assert near in str(error.value)
