"""MNIST-1D: signals of 40 numbers made to look like digits drawn in one dimension, as images one
row high (Greydanus and Kobak 2020, arXiv 2011.14439).

The package `mnist1d` makes them, without a download: 4,000 to train on and 1,000 for a test, always
the same. Called by `sources.py`, when there is something to prepare.
"""

import random
from pathlib import Path

import numpy as np

from scaling.errors import SourceError

VERSION = "seed 42, 4000 and 1000; v1"


def write(folder: Path) -> None:
    """train.npz and test.npz: pixels float32 [N, 1, 40, 1] and labels [N]. Raises SourceError
    without the package.
    """
    try:
        from mnist1d import data
    except ImportError as error:
        raise SourceError('source "mnist1d" needs a package: pip install mnist1d') from error
    # It draws from the generators of the whole process: they are given back as they were.
    ours, numpys = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        made = data.make_dataset(data.get_dataset_args())
    finally:
        random.setstate(ours)
        np.random.set_state(numpys)  # noqa: NPY002
    for part, suffix in (("train", ""), ("test", "_test")):
        pixels = np.asarray(made[f"x{suffix}"], np.float32)[:, None, :, None]
        np.savez(folder / f"{part}.npz", pixels=pixels, labels=made[f"y{suffix}"])
