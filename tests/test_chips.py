"""The table of chips: peaks by the name that jax gives."""

import pytest

from scaling import chips


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
