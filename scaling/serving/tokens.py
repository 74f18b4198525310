"""Texts as the tokens of a run and back, for clients that count before they ask: harnesses that
score answers. Paths and fields are those of vLLM's server.

Functions of the body of a request, as JSON. Called by `server.py`.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from scaling.serving import asked
from scaling.serving.asked import Refused
from scaling.serving.model import SEPARATOR, Model

_FIELDS = {
    "/tokenize": ("model", "prompt", "add_special_tokens"),
    "/detokenize": ("model", "tokens"),
}
PATHS = tuple(_FIELDS)


def about(models: Mapping[str, Model]) -> dict[str, Any]:
    """What stands before and behind a text, by name. Raises Refused where several tokenizers are
    served.
    """
    model = _model({}, models)
    return {
        "tokenizer_class": type(model.tokenizer).__name__,
        "bos_token": SEPARATOR,
        "eos_token": SEPARATOR,
        "model_max_length": min(one.limit for one in models.values()),
    }


def answer(path: str, body: bytes, models: Mapping[str, Model]) -> dict[str, Any]:
    """Of one of `PATHS`. Raises Refused."""
    said = asked.object_of(body)
    for field in said:
        if field not in _FIELDS[path]:
            raise Refused(f"{field} is no field of {path}; leave it out", field=field)
    model = _model(said, models)
    if path == "/detokenize":
        tokens = said.get("tokens")
        if not isinstance(tokens, list):
            raise Refused("tokens must be a list of numbers", field="tokens")
        content = model.tokenizer.decode(asked.tokens_of(tokens, model, "tokens"))
        return {"prompt": content.decode(errors="replace")}
    if not isinstance(prompt := said.get("prompt"), str):
        raise Refused("prompt must be a text", field="prompt")
    tokens = _tokens(prompt, model)
    if said.get("add_special_tokens") is not False:
        tokens = [model.tokenizer.separator, *tokens]
    return {"tokens": tokens, "count": len(tokens), "max_model_len": model.limit}


def _tokens(prompt: str, model: Model) -> Sequence[int]:
    """Those of a text; the separator, where it is named."""
    between, parts = [model.tokenizer.separator], prompt.split(SEPARATOR)
    cut = [list(model.tokenizer.encode(one.encode(errors="surrogatepass"))) for one in parts]
    return list(itertools.chain(cut[0], *(between + more for more in cut[1:])))


def _model(said: Mapping[str, Any], models: Mapping[str, Model]) -> Model:
    """That which is named, or any of those that are served where all have one tokenizer."""
    if said.get("model") is not None:
        return asked.model_of(said, models)
    if len({model.tokenizer.identity for model in models.values()}) > 1:
        raise Refused(
            "the runs that are served have several tokenizers; name one as model, or serve it "
            "alone",
            field="model",
        )
    return next(iter(models.values()))
