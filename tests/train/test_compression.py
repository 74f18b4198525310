"""Packed weights are the weights, their files as large as promised, and a correction corrects."""

import json

import jax
import numpy as np
import pytest

from scaling.commands import COMMANDS
from scaling.errors import DamagedError
from scaling.models import rounding
from scaling.optim import Leaf
from scaling.records import RunDirectory, packed_weights
from scaling.records.packed_weights import FLOAT, Tensor
from scaling.train import compression
from scaling.train.correction import corrected
from scaling.train.loop import train
from scaling.train.opened import newest

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("count", [1, 7, 8, 33])
def test_whole_numbers_come_back_and_take_their_bits(bits, count):
    most = rounding.most(bits)
    codes = RNG.integers(-most, most + 1, count).astype(np.int8)
    content = packed_weights.packed(codes, bits)
    assert len(content) == -(-count * bits // 8)
    np.testing.assert_array_equal(packed_weights.unpacked(content, count, bits), codes)


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_a_file_gives_back_what_was_written_and_is_as_large_as_promised(tmp_path, density):
    kept = RNG.random((3, 4, 5)) < density
    tensors = {
        "blocks/w": Tensor((RNG.integers(1, 8, kept.shape) * kept).astype(np.int8), 4, RNG.random(
            (3, 1, 5)).astype(np.float32)),
        "head": Tensor((RNG.random(kept.shape) * kept).astype(np.float32)),
        "norm/scale": Tensor(np.ones(7, np.float32)),
    }  # fmt: skip
    path = tmp_path / "weights.safetensors"
    written = packed_weights.write(path, tensors)
    promised = packed_weights.promised({name: one.form for name, one in tensors.items()})
    assert path.stat().st_size == written == promised
    read = packed_weights.read(path)
    for name, one in tensors.items():
        np.testing.assert_array_equal(read[name].values, one.values, err_msg=name)
        np.testing.assert_array_equal(read[name].whole, one.whole, err_msg=name)
    form = tensors["head"].form
    assert form.sparse == (density < 1.0)
    # As other readers of the format go by it: every array where its offsets say.
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    ends = [one["data_offsets"] for name, one in header.items() if name != "__metadata__"]
    assert sorted(a for a, _ in ends)[1:] == sorted(b for _, b in ends)[:-1]
    assert max(b for _, b in ends) == len(content) - 8 - length
    path.write_bytes(content[:-1])
    with pytest.raises(DamagedError, match=r"weights\.safetensors is no file of packed weights"):
        packed_weights.read(path)


def test_the_correction_is_nearer_in_what_the_matrix_makes():
    """And without a correlation of the inputs it is rounding."""
    w = RNG.normal(size=(2, 12, 6)).astype(np.float32)
    w[0, :3] = 0
    leaf = Leaf("w", w.shape, ("layers", "embed", "mlp"), "hidden", (1,), (2,), frozenset())
    mixed = RNG.normal(size=(2, 200, 4)) @ RNG.normal(size=(2, 4, 12))
    x = mixed + 0.1 * RNG.normal(size=(2, 200, 12))
    moments = np.einsum("rni,rnj->rij", x, x)
    scale = np.asarray(rounding.scale(w, (1,), 3))
    plain = np.asarray(rounding.codes(w, scale, 3))
    better = corrected(w, scale, 3, leaf, moments)
    errors = [np.square(x @ (codes * scale) - x @ w).sum() for codes in (plain, better)]
    assert errors[1] < 0.5 * errors[0]
    assert not better[0, :3].any()  # what was pruned
    alone = np.stack([np.eye(12)] * 2)
    np.testing.assert_array_equal(corrected(w, scale, 3, leaf, alone), plain)


@pytest.mark.slow
def test_trained_weights_are_written_read_and_evaluated(tiny, tmp_path):
    config = tiny({"train.steps": 8, "optim.peak_lr": 0.02})
    pruned = tiny({"train.steps": 8, "transform.name": "prune", "transform.end": 0.5})
    aware = {"train.steps": 8, "transform.name": "qat", "transform.bits": 2}
    rows = {}
    for name, one, bits, hows in (
        ("whole", config, [8, 2], ["round", "gptq"]),
        ("pruned", pruned, [8], ["round"]),
        ("aware", tiny(aware), [2], ["round"]),
    ):
        train(one, tmp_path, devices=jax.devices()[:1], quiet=True)
        run = RunDirectory.open(one, tmp_path)
        found = compression.judge(run, bits, hows, tmp_path)
        rows[name] = {(row["how"], row["bits"]): row for row in found}
        for row in found:
            assert row["bytes"] == row["bytes_promised"] == row["bytes_written"]
        told = [line["loss"] for line in run.metrics() if line["split"] == "val"][-1]
        assert rows[name]["none", FLOAT]["loss"] == pytest.approx(told, rel=1e-6)
    whole, fewer = rows["whole"], rows["pruned"]
    assert abs(whole["round", 8]["loss_rise"]) < 0.01 * whole["none", FLOAT]["loss"]
    assert whole["round", 2]["loss"] != whole["gptq", 2]["loss"]  # the inputs were found
    assert fewer["none", FLOAT]["density"] < 0.7
    for key in (("none", FLOAT), ("round", 8)):
        assert fewer[key]["bytes"] < whole[key]["bytes"]
    # Trained on three levels, it loses nothing on them.
    assert rows["aware"]["round", 2]["loss_rise"] == pytest.approx(0.0, abs=1e-5)
    weights = newest(RunDirectory.open(pruned, tmp_path)).used
    path = tmp_path / f"{RunDirectory.open(pruned, tmp_path).path.name}-none-32bits.safetensors"
    for name, one in packed_weights.read(path).items():
        at = weights
        for part in name.split("/"):
            at = at[part]
        np.testing.assert_array_equal(one.whole, at)


def test_the_command_is_there():
    assert "launch.py compress --workdir" in COMMANDS["compress"].help
