"""The combinations of `combinations.py`, one after the other; each is built once a session."""

import pathlib

import pytest
from combinations import Combination, every


@pytest.fixture(scope="session", params=every(), ids=str)
def one(
    request: pytest.FixtureRequest,
    text_files: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Combination:
    """A family, a kind of data and an objective that fit."""
    return Combination(request.param, f"text:{text_files}/*.txt", tmp_path_factory.mktemp("alone"))
