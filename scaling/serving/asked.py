"""What a client asks for, read from the body of a request and checked.

The fields are those of OpenAI's completions; what is not there to be done is refused by name rather
than left out. Called by `server.py`.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaling.serving.model import KNOWN, Model, Row


class Refused(Exception):
    """An answer that is none: what is wrong in one sentence, and the status of HTTP."""

    def __init__(self, message: str, status: int = 400, field: str | None = None):
        super().__init__(message)
        self.status, self.field = status, field


@dataclass(frozen=True)
class Asked:
    """One request."""

    model: Model
    rows: Sequence[Row]  # a choice each, in order
    given: Sequence[Sequence[int]]  # the tokens of each row's text without what was put before it
    stops: Sequence[str]
    logprobs: int | None  # of the likeliest tokens at a place; None: nothing is told
    echo: bool  # the text stands before its continuation
    stream: bool
    usage: bool  # counts at the end of a stream

    @property
    def prompt_tokens(self) -> int:
        """Of all texts, each once."""
        return sum(
            len(tokens)
            for tokens, row in zip(self.given, self.rows, strict=True)
            if row.number == 0
        )


# Field -> what it may be, all of which mean that it is off.
_OFF: Mapping[str, tuple[Any, ...]] = {
    "suffix": (None, ""),
    "best_of": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logit_bias": (None, {}),
}
_HOTTEST = 100.0
_FIELDS = (
    *("model", "prompt", "max_tokens", "temperature", "top_p", "n", "stop", "seed", "logprobs"),
    *("echo", "stream", "stream_options", "user"),
)


def read(body: bytes, models: Mapping[str, Model], most_rows: int) -> Asked:
    """The request of a body.

    Args:
      most_rows: choices of one request.

    Raises Refused.
    """
    said = object_of(body)
    for field, value in said.items():
        if field in _OFF and value not in _OFF[field]:
            raise Refused(f"{field} is not done here; leave it out", field=field)
        if field not in _FIELDS and field not in _OFF:
            raise Refused(f"{field} is no field that is known here; leave it out", field=field)
    model = model_of(said, models)
    n = _whole(said, "n", 1, 1, most_rows)
    most = _whole(said, "max_tokens", 16, 0, model.limit)
    seed = _whole(said, "seed", None, -(2**63), 2**63 - 1)
    temperature = _number(said, "temperature", 1.0, _HOTTEST)
    top_p = _number(said, "top_p", 1.0, 1.0)
    if top_p == 0:
        raise Refused("top_p=0 leaves no token; give a share above 0", field="top_p")
    texts = _texts(said.get("prompt"), model)
    if len(texts) * n > most_rows:
        raise Refused(
            f"{len(texts)} prompts with n={n} are {len(texts) * n} choices, and a request may have "
            f"{most_rows}; ask in several requests",
            field="prompt",
        )
    drawn, rows, given = secrets.randbits(32) if seed is None else seed % 2**32, [], []
    for text in texts:
        separator = model.tokenizer.separator
        tokens = text if text[:1] == [separator] else [separator, *text]
        if len(tokens) + most > model.limit:
            raise Refused(
                f"the prompt has {len(tokens)} tokens with the separator before it, which with "
                f"max_tokens={most} is more than the {model.limit} that a text may have",
                field="prompt",
            )
        for number in range(n):
            rows.append(Row(tokens, most, temperature, top_p, drawn, number))
            given.append(text)
    options = said.get("stream_options") or {}
    return Asked(
        model,
        rows,
        given,
        _stops(said.get("stop")),
        _whole(said, "logprobs", None, 0, KNOWN),
        _flag(said, "echo"),
        _flag(said, "stream"),
        isinstance(options, dict) and options.get("include_usage") is True,
    )


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Refused."""
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the body is no JSON: {error}") from error
    if not isinstance(said, dict):
        raise Refused("the body is no JSON object")
    return said


def model_of(said: Mapping[str, Any], models: Mapping[str, Model]) -> Model:
    """That which is asked. Raises Refused."""
    name = said.get("model")
    if name is None and len(models) == 1:
        return next(iter(models.values()))
    if not isinstance(name, str) or name not in models:
        known = ", ".join(models)
        raise Refused(f"model={name!r} is none that is served here ({known})", 404, "model")
    return models[name]


def _texts(prompt: Any, model: Model) -> list[list[int]]:
    """The tokens of each text: of a string, of numbers, or of a list of either."""
    if prompt is None:
        raise Refused("there is no prompt; give a text, or tokens as numbers", field="prompt")
    several = isinstance(prompt, list) and not all(_is_whole(x) for x in prompt)
    texts = prompt if several else [prompt]
    return [_tokens(text, model) for text in texts]


def _tokens(text: Any, model: Model) -> list[int]:
    if isinstance(text, str):
        return list(model.tokenizer.encode(text.encode(errors="surrogatepass")))
    if not isinstance(text, list) or not all(_is_whole(x) for x in text):
        raise Refused(
            "prompt must be a text, tokens as numbers, or a list of either", field="prompt"
        )
    return tokens_of(text, model, "prompt")


def tokens_of(numbers: Sequence[Any], model: Model, field: str) -> list[int]:
    """Numbers that are tokens. Raises Refused naming the field."""
    for token in numbers:
        if not _is_whole(token) or not 0 <= token < model.tokens:
            raise Refused(f"{token!r} is no token; there are {model.tokens}", field=field)
    return list(numbers)


def _stops(stop: Any) -> list[str]:
    stops = [] if stop is None else stop if isinstance(stop, list) else [stop]
    if not all(isinstance(one, str) for one in stops) or len(stops) > 16:
        raise Refused("stop must be a text, or up to 16 of them", field="stop")
    return [one for one in stops if one]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(said: Mapping[str, Any], field: str, default: Any, low: int, high: int) -> Any:
    value = said.get(field)
    if value is None:
        return default
    if not _is_whole(value) or not low <= value <= high:
        raise Refused(f"{field}={value!r} must be a whole number from {low} to {high}", field=field)
    return value


def _number(said: Mapping[str, Any], field: str, default: float, high: float) -> float:
    value = said.get(field)
    if value is None:
        return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= high:
        raise Refused(f"{field}={value!r} must be a number from 0 to {high:g}", field=field)
    return float(value)


def _flag(said: Mapping[str, Any], field: str) -> bool:
    value = said.get(field)
    if value is not None and not isinstance(value, bool):
        raise Refused(f"{field}={value!r} must be true or false", field=field)
    return bool(value)
