"""A look into a model while it is traced: arrays that no module gives out reach an observer, and
somebody may put another array in the place of one.

`tell` and `through` stand in a model where such arrays are made, and do nothing unless the trace
goes on inside `observing` or `putting`: a program that nobody looks into is the same with them and
without. Observed, the blocks run one after the other, also where the mesh has stages (`blocks.py`):
what passes through a loop or a pipeline could not be handed out. Called by
`scaling/train/inside.py`.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

Observer = Callable[..., None]
Put = Callable[[Any], Any]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)
_put: ContextVar[Put | None] = ContextVar("put", default=None)


def tell(kind: str, part: str, value: Callable[[], Any]) -> None:
    """Gives the observer, if there is one, what a part of a model tells of itself: an array, which
    is made for it alone.
    """
    observer = _observer.get()
    if observer is not None:
        observer(kind, part, value)


def through(x: Any) -> Any:
    """What a lookup made, or what somebody puts in its place."""
    put = _put.get()
    return x if put is None else put(x)


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


@contextlib.contextmanager
def putting(put: Put) -> Iterator[None]:
    """Inside it `put` is given what the first lookup of a model makes, and gives what stands in its
    place; later ones stay.
    """
    met = list[None]()

    def first(x: Any) -> Any:
        met.append(None)
        return put(x) if len(met) == 1 else x

    token = _put.set(first)
    try:
        yield
    finally:
        _put.reset(token)
