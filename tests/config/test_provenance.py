"""A run's record names the commit that made it."""

import pathlib
import subprocess

import pytest

from scaling.config.provenance import provenance

REPOSITORY = pathlib.Path(__file__).parents[2]


@pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="no git checkout")
def test_the_commit_is_that_of_the_checkout():
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert provenance()["commit"] == head
    assert isinstance(provenance()["dirty"], bool)
