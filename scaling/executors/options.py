"""Options of an executor: a field of a frozen dataclass with its default and what it means.

`commands/command.py` makes a flag of each, so that the dataclass is the one place that knows them.
"""

import dataclasses
from typing import Any


def option(default: Any, help: str, least: float | None = None) -> Any:
    """A field with a default, a line of help, and the least that its flag takes; None: the
    cluster's own default, or off.
    """
    return dataclasses.field(default=default, metadata={"help": help, "least": least})
