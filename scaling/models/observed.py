"""A look into a model while it is traced: arrays that no module gives out reach an observer.

`tell` stands in a model where such arrays are made, and does nothing unless the trace goes on
inside `observing`: a program that nobody observes is the same with it and without. Observed, the
blocks run one after the other, also where the mesh has stages (`blocks.py`): what passes through a
loop or a pipeline could not be handed out. Called by `scaling/train/watch.py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

Observer = Callable[..., None]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


def tell(kind: str, part: str, value: Callable[[], Any]) -> None:
    """Gives the observer, if there is one, what a part of a model tells of itself: an array, which
    is made for it alone.
    """
    observer = _observer.get()
    if observer is not None:
        observer(kind, part, value)


def observed() -> bool:
    """Whether somebody looks."""
    return _observer.get() is not None


@contextlib.contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Inside it `tell` calls the observer. The model must be unrolled, without remat."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)
