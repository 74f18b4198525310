"""What comes of a request, in the words of OpenAI's completions: whole, or event after event.

Pure functions of what `batching.py` tells, and dicts that become JSON. Called by `server.py`.
"""

import codecs
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scaling.serving.asked import Asked, Refused
from scaling.serving.batching import Event, Token
from scaling.serving.model import Model

_LEAST = -9999.0  # log-probability of what is told as impossible
_LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


class Choice:
    """One row of a request: its events as parts of an answer."""

    def __init__(self, asked: Asked, row: int):
        self._asked, self._row = asked, row
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._said, self._begun = 0, False  # characters of the text so far

    def part(self, event: Event) -> dict[str, Any]:
        """The choice as far as this event tells of it."""
        asked, text = self._asked, event.text
        tokens = list(event.tokens)
        if asked.echo and not self._begun:
            given = asked.given[self._row]
            content = asked.model.tokenizer.decode(given)
            text = content.decode(errors="replace") + text
            tokens = [*self._given(event), *tokens]
        self._begun = True
        return {
            "index": self._row,
            "text": text,
            "logprobs": None if asked.logprobs is None else self._logprobs(tokens),
            "finish_reason": event.end,
        }

    def _given(self, event: Event) -> list[Token]:
        """The tokens of the text that was given."""
        if event.scores is None:
            return []
        given, numbers = self._asked.given[self._row], self._asked.rows[self._row].tokens[1:]
        scored = zip(numbers, *(x.tolist() for x in event.scores), strict=True)
        found = [Token(n, p, dict(zip(best, of, strict=True))) for n, p, best, of in scored]
        return found if len(found) == len(given) else [Token(given[0], None, {}), *found]

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        model, most = self._asked.model, self._asked.logprobs or 0
        found: dict[str, Any] = {name: [] for name in _LISTS}
        for token in tokens:
            p = token.log_probability
            found["tokens"].append(model.named(token.number))
            found["token_logprobs"].append(None if p is None else _finite(p))
            found["top_logprobs"].append(None if p is None else _best(model, token, p, most))
            found["text_offset"].append(self._said)
            self._said += len(self._decoder.decode(model.tokenizer.decode([token.number])))
        return found if most else found | {"top_logprobs": None}


def _best(model: Model, token: Token, log_p: float, most: int) -> dict[str, float]:
    """The likeliest, and the one that is there."""
    found: dict[str, float] = {}
    for number, p in [*list(token.best.items())[:most], (token.number, log_p)]:
        found.setdefault(model.named(number), _finite(p))
    return found


def _finite(log_p: float) -> float:
    return log_p if log_p > _LEAST else _LEAST


def answer(asked: Asked, events: Iterator[Event]) -> dict[str, Any]:
    """The whole answer, once all has happened."""
    choices = [Choice(asked, row) for row in range(len(asked.rows))]
    whole: list[dict[str, Any] | None] = [None] * len(choices)
    written = 0
    for event in events:
        part = choices[event.row].part(event)
        written += len(event.tokens)
        had = whole[event.row]
        whole[event.row] = part if had is None else _joined(had, part)
    return _head(asked) | {"choices": whole, "usage": usage(asked, written)}


def _joined(first: Mapping[str, Any], then: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(then) | {"text": first["text"] + then["text"]}
    if then["logprobs"] is not None:
        found["logprobs"] = {
            name: None if first["logprobs"][name] is None else first["logprobs"][name] + more
            for name, more in then["logprobs"].items()
        }
    return found


def parts(asked: Asked, events: Iterator[Event]) -> Iterator[dict[str, Any]]:
    """The answer as it comes: texts that joined are the whole ones."""
    head, written = _head(asked), 0
    choices = [Choice(asked, row) for row in range(len(asked.rows))]
    for event in events:
        written += len(event.tokens)
        part = choices[event.row].part(event)
        if part["text"] or part["finish_reason"] or (part["logprobs"] or {}).get("tokens"):
            yield head | {"choices": [part]}
    if asked.usage:
        yield head | {"choices": [], "usage": usage(asked, written)}


def usage(asked: Asked, written: int) -> dict[str, int]:
    """Tokens that were given and written."""
    given = asked.prompt_tokens
    return {
        "prompt_tokens": given,
        "completion_tokens": written,
        "total_tokens": given + written,
    }


def _head(asked: Asked) -> dict[str, Any]:
    return {
        "id": f"cmpl-{uuid.uuid4().hex}",
        "object": "text_completion",
        "created": int(time.time()),
        "model": asked.model.name,
    }


def models(known: Mapping[str, Model]) -> dict[str, Any]:
    """The list of them."""
    return {"object": "list", "data": [model_of(one) for one in known.values()]}


def model_of(model: Model) -> dict[str, Any]:
    """One of them; `max_model_len`: tokens of a text with its continuation."""
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "scaling",
        "max_model_len": model.limit,
    }


def refusal(error: Refused) -> dict[str, Any]:
    """Of a request that is not answered."""
    kinds = {429: "rate_limit_error", 500: "server_error", 503: "server_error"}
    kind = kinds.get(error.status, "invalid_request_error")
    about = {"message": str(error), "type": kind, "param": error.field, "code": error.status}
    return {"error": about}
