"""Muon under a parametrization in whole runs: on a mesh, and stopped and gone on."""

import threading

import jax
import numpy as np
import pytest
from curves import curve
from reading import final_state, lines

from scaling.records import RunDirectory
from scaling.train.loop import train

SCALED = {
    "optim.name": "muon",
    "optim.parametrization": "completep",
    "optim.base_width": 8,
    "optim.base_depth": 1,
    "model.depth": 2,
}


@pytest.mark.slow
def test_on_a_mesh_it_is_the_same_curve(tiny):
    """Matrices that lie over devices are gathered, made orthogonal and cut again."""
    mesh = {"mesh.fsdp": 4, "mesh.tensor": 2}
    alone = curve(tiny(SCALED), devices=1)[0]
    np.testing.assert_allclose(curve(tiny(SCALED | mesh), devices=8)[0], alone, rtol=1e-5)
    assert alone[-1] < alone[0]


@pytest.mark.slow
def test_stopped_and_gone_on_it_is_as_if_it_had_not_been(tiny, tmp_path):
    """The states of its two optimizers go through a checkpoint, bit for bit."""
    config, device = tiny(SCALED), jax.devices()[:1]
    assert train(config, tmp_path / "whole", devices=device, quiet=True).status == "done"
    stop = threading.Event()
    stop.set()  # after the first call
    for _ in range(2):
        assert train(config, tmp_path / "cut", devices=device, stop=stop, quiet=True).step < 12
    assert train(config, tmp_path / "cut", devices=device, quiet=True).status == "done"
    whole, cut = (RunDirectory.open(config, tmp_path / name) for name in ("whole", "cut"))
    assert lines(whole) == lines(cut)
    for ours, theirs in zip(final_state(cut), final_state(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
