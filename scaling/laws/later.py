"""jax, imported when a law is first computed: its names and facts are read without it.

Takes nothing; gives `jax` and `jnp`, which stand for the modules. Called by the files of laws,
whose formulas run inside the engine only; that one imports jax itself.
"""

import importlib
from typing import Any


class _Module:
    """A module that is imported at the first look at one of its names."""

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


jax: Any = _Module("jax")
jnp: Any = _Module("jax.numpy")
