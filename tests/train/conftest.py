"""A run that is taught by another, which is known by its model alone."""

import pytest

from scaling.config.teacher import described


@pytest.fixture(scope="session")
def student(tiny):
    """`student(fields)`: a resolved run that is taught by a wider model."""
    wide = described(tiny({"model.width": 32}).model)

    def of(fields=None):
        taught = {"begins.run": "0123456789ab", "distill.weight": 0.5, "distill.teacher": wide}
        return tiny(taught | (fields or {}))

    return of
