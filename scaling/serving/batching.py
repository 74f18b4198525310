"""Rows that wait, and the one thread that continues them: those that come together share a batch.

Takes requests as `asked.py` reads them; gives each a `Ticket`, from which whoever asked reads what
happens to its rows, as it happens. How many may wait is bounded. Called by `server.py`.
"""

import queue
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from scaling.serving.asked import Asked, Refused
from scaling.serving.continuation import Written
from scaling.serving.model import Model, Row, Scores

_GATHER = 0.005  # seconds that the first row of a batch waits for others


@dataclass(frozen=True)
class Token:
    """One that was written."""

    number: int
    log_probability: float | None  # None: of a text's first, where nothing stands before it
    best: dict[int, float]  # the likeliest tokens there, and their log-probabilities


@dataclass(frozen=True)
class Event:
    """What happened to one row of a request."""

    row: int
    text: str = ""  # that can be said now
    tokens: Sequence[Token] = ()  # that it was made of, or that make it
    scores: Scores | None = None  # of the text that was given
    end: str | None = None  # why it ended: "stop" or "length"


class Failed(Exception):
    """A batch that could not be computed."""


@dataclass(eq=False)
class Ticket:
    """A request that was let in."""

    asked: Asked
    events: "queue.SimpleQueue[Event | Failed]" = field(default_factory=queue.SimpleQueue)
    gone: bool = False  # whoever asked no longer listens

    def __iter__(self) -> Iterator[Event]:
        """What happens, until the last of its rows has ended. Raises Failed."""
        left = len(self.asked.rows)
        while left:
            event = self.events.get()
            if isinstance(event, Failed):
                raise event
            left -= event.end is not None
            yield event


class _Work:
    """One row on its way."""

    def __init__(self, ticket: Ticket, number: int):
        self.ticket, self.number = ticket, number
        self.row: Row = ticket.asked.rows[number]
        self.written = Written(ticket.asked.model.tokenizer, ticket.asked.stops)
        self.left, self.ended = self.row.most, False

    @property
    def done(self) -> bool:
        """Whether nobody needs more of it."""
        return self.ended or self.ticket.gone

    def add(self, tokens: Sequence[Token]) -> None:
        """More of what was written."""
        if self.done:
            return
        new, kept = "", list[Token]()
        for token in tokens[: self.left]:
            self.left -= 1
            new += self.written.add([token.number])
            if self.written.done and token.number == self.written.separator:
                break
            kept.append(token)
            if self.written.done:
                break
        end = "stop" if self.written.done else None
        if end is None and not self.left:
            new, end = new + self.written.end(), "length"
        self.tell(text=new, tokens=kept, end=end)

    def tell(self, **said: Any) -> None:
        """Whoever asked."""
        event = Event(self.number, **said)
        self.ended = event.end is not None
        self.ticket.events.put(event)


class Batcher:
    """The rows that wait, and a thread that takes them."""

    def __init__(self, most: int):
        """`most`: rows that may wait."""
        self.most, self.running = most, 0
        self._waiting, self._changed = deque[_Work](), threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batches")
        self._thread.start()

    @property
    def closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Rows."""
        return len(self._waiting)

    def admit(self, asked: Asked) -> Ticket:
        """Raises Refused where too many wait, or nothing more is taken."""
        ticket = Ticket(asked)
        with self._changed:
            if self._closed:
                raise Refused("the server is stopping", 503)
            if len(self._waiting) + len(asked.rows) > self.most:
                raise Refused(f"{len(self._waiting)} rows wait already; ask again later", 429)
            self._waiting.extend(_Work(ticket, i) for i in range(len(asked.rows)))
            self._changed.notify()
        return ticket

    def close(self) -> None:
        """Takes no more, and comes back when all that was let in is answered."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while batch := self._next():
            self.running = len(batch)
            try:
                _answer(batch[0].ticket.asked.model, batch)
            except Exception as error:  # of the compiler or the device: the server goes on
                traceback.print_exc(file=sys.stderr)
                for ticket in {work.ticket for work in batch}:
                    ticket.gone = True
                    ticket.events.put(Failed(f"{type(error).__name__}: {error}"))
            self.running = 0

    def _next(self) -> list[_Work]:
        """The rows of the next batch: the first that waits, and those behind it that go with it;
        none, once nothing more can come.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
            time.sleep(_GATHER)
            with self._changed:
                batch, rest = list[_Work](), deque[_Work]()
                for work in self._waiting:
                    if not work.ticket.gone:
                        together = not batch or _together([*batch, work])
                        (batch if together else rest).append(work)
                self._waiting = rest
                if batch or self._closed:
                    return batch


def _together(works: Sequence[_Work]) -> bool:
    model = works[0].ticket.asked.model
    if works[-1].ticket.asked.model is not model:
        return False
    return model.fits([work.row for work in works])


def _answer(model: Model, batch: Sequence[_Work]) -> None:
    """Scores what is to be scored, then writes, as long as somebody needs more."""
    scored = [w for w in batch if w.ticket.asked.echo and w.ticket.asked.logprobs is not None]
    if scored:
        found = model.score([work.row.tokens for work in scored])
        for work, scores in zip(scored, found, strict=True):
            work.tell(scores=scores)
    for work in batch:
        if not work.row.most:
            work.tell(end="length")
    rows = [work for work in batch if work.row.most]
    if not rows:
        return
    for told in model.write([work.row for work in rows]):
        for i, work in enumerate(rows):
            if not work.done:
                work.add(_tokens(*(x[i] for x in told)))
        if all(work.done for work in rows):
            return


def _tokens(
    tokens_N: np.ndarray, log_p_N: np.ndarray, best_NxK: np.ndarray, best_log_p_NxK: np.ndarray
) -> list[Token]:
    return [
        Token(int(token), float(log_p), dict(zip(best.tolist(), p.tolist(), strict=True)))
        for token, log_p, best, p in zip(tokens_N, log_p_N, best_NxK, best_log_p_NxK, strict=True)
    ]
