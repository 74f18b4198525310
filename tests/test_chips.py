"""The table of chips: peaks and memory by the name that jax gives, and which slices are tori."""

from types import SimpleNamespace

import pytest

from scaling.check.target import of_devices
from scaling.devices import chips, slices


@pytest.mark.parametrize(
    ("kind", "name", "bfloat16", "float32", "memory", "bandwidth"),
    [
        ("TPU v4", "v4", 275e12, 275e12, 30.75 * 2**30, 1228e9),
        ("TPU v5 lite", "v5e", 197e12, 197e12, 15.75 * 2**30, 819e9),
        ("TPU v5", "v5p", 459e12, 459e12, 95.74 * 2**30, 2765e9),
        ("TPU v6 lite", "v6e", 918e12, 918e12, 31.25 * 2**30, 1638e9),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB", 312e12, 156e12, 40e9, 1555e9),
        ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB", 312e12, 156e12, 40e9, 1555e9),
        ("NVIDIA A100-SXM4-80GB", "A100", 312e12, 156e12, 80e9, 2039e9),
        ("NVIDIA A100 80GB PCIe", "A100 PCIe", 312e12, 156e12, 80e9, 1935e9),
        ("NVIDIA H100 80GB HBM3", "H100", 989e12, 494.5e12, 80e9, 3.35e12),
        ("NVIDIA H100 PCIe", "H100 PCIe", 756e12, 378e12, 80e9, 2e12),
        ("NVIDIA H100 NVL", "H100 NVL", 835e12, 417.5e12, 94e9, 3.9e12),
        ("NVIDIA H200", "H200", 989e12, 494.5e12, 141e9, 4.8e12),
        ("NVIDIA H200 NVL", "H200 NVL", 835e12, 417.5e12, 141e9, 4.8e12),
        ("NVIDIA GH200 480GB", "GH200", 989e12, 494.5e12, 96e9, 4e12),
        ("NVIDIA GH200 144G HBM3e", "GH200 144G", 989e12, 494.5e12, 144e9, 4.9e12),
        ("NVIDIA B200", "B200", 2250e12, 1125e12, 180e9, 8e12),
        ("NVIDIA GB200", "GB200", 2500e12, 1250e12, 186e9, 8e12),
    ],
)
def test_numbers_are_those_of_the_data_sheets(kind, name, bfloat16, float32, memory, bandwidth):
    chip = chips.of_device(kind)
    assert chip is not None
    assert chip.name == name
    assert (chip.peak("bfloat16"), chip.peak("float32")) == (bfloat16, float32)
    assert (chip.hbm_bytes, chip.hbm_bandwidth) == (memory, bandwidth)


def test_matmuls_of_8_bits_have_their_own_peak_where_the_hardware_has_one():
    h100, v5e = chips.of_device("NVIDIA H100 80GB HBM3"), chips.of_device("TPU v5 lite")
    assert (h100.peak("int8"), h100.peak("fp8")) == (1979e12, 1979e12)
    assert (v5e.peak("int8"), v5e.peak("fp8")) == (393e12, v5e.peak("bfloat16"))


def test_a_device_that_is_not_in_the_table_has_no_numbers():
    assert chips.of_device("an abacus") is None
    assert chips.of_device("NVIDIA XH200") is None


def test_a_device_at_hand_has_the_memory_that_its_runtime_gives():
    """On a GPU jax takes three quarters of it by default."""
    stats = {"bytes_limit": 105e9, "bytes_in_use": 1.0}

    def device(**values):
        return SimpleNamespace(process_index=0, **values)

    here = device(device_kind="NVIDIA H200", memory_stats=lambda: stats)
    silent = device(device_kind="NVIDIA H200", memory_stats=lambda: None)
    unknown = device(device_kind="an abacus", memory_stats=lambda: None)
    assert [chips.memory_bytes(d) for d in (here, silent, unknown)] == [105e9, 141e9, None]
    assert of_devices([here, here]).hbm_bytes == 105e9
    assert of_devices([here], hbm_bytes=5e9).hbm_bytes == 5e9


@pytest.mark.parametrize(
    ("topology", "rings"),
    [
        ("v4:2x2x4", (False, False, False)),
        ("v5p:2x4x4", (False, False, False)),
        ("v5p:4x4x4", (True, True, True)),
        ("v5p:4x4x8", (True, True, True)),
        ("v5e:8x16", (False, True)),
        ("v6e:16x16", (True, True)),
        ("v5e:4x8", (False, False)),
    ],
)
def test_which_dimensions_of_a_slice_are_rings(topology, rings):
    found = slices.find(topology)
    assert found.chip.rings(found.shape) == rings
