"""What kinds of data share whose amounts are counted in whole examples.

Base of the configs of such kinds. No jax and no NumPy here.
"""

from typing import ClassVar


class WholeExamples:
    """One row of a batch is one unit; the field `UNIQUE` is the size of the training subset."""

    unit: ClassVar[str] = "example"  # what it is called
    UNIQUE: ClassVar[str | None] = "unique_examples"  # None: there is no such subset

    @property
    def units_per_example(self) -> int:
        """One."""
        return 1

    @property
    def unique_units(self) -> int | None:
        """Units of the nested training subset; None: all."""
        return None if self.UNIQUE is None else getattr(self, self.UNIQUE)
