"""The example that is explained: a row of the validation set, or a text that somebody gives.

Gives a batch of one row, what stands at its places in words, and the array of numbers that what the
model says is traced back to: an image, features, or what its first lookup makes of the tokens.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling import data, files
from scaling.config import RunConfig, choices
from scaling.errors import UserError
from scaling.explain.attributions import squares
from scaling.models.observed import putting
from scaling.train.attack import INPUTS

Array = jax.Array
Batch = Mapping[str, Any]
_REFERENCE = 64  # rows that a baseline is the mean of


@dataclass(frozen=True)
class Example:
    """One row."""

    batch: Batch  # arrays [1, ...]
    reference: Batch  # rows of the same kind, [R, ...]
    said: str  # which it is
    names: Callable[[int], str]  # of a token or a class, in words

    @property
    def pieces(self) -> Sequence[str]:
        """What stands at each place of a text."""
        return [self.names(int(token)) for token in self.batch["tokens"][0]]


def of_row(config: RunConfig, number: int) -> Example:
    """Row `number`, from 0, of the set "val" of a resolved run. Raises UserError."""
    batches = data.eval_batches(config, "val")
    rows = batches.selection
    if not 0 <= number < len(rows):
        raise UserError(f"--row={number}: the validation set has {len(rows)} rows, from 0")
    return Example(
        batches.examples.take(rows[number : number + 1]),
        batches.examples.take(rows[:_REFERENCE]),
        f"row {number} of the validation set",
        _names(config),
    )


def of_text(config: RunConfig, text: str) -> Example:
    """A text, with the mark before it that stands before every document. Raises UserError where the
    run's model does not read a text alone, or not one as long.
    """
    kind, reads = choices.kind(config.data), choices.family(config.model).reads
    if kind.tokenizer is None or not {"tokens"} <= reads <= {"tokens", "positions"}:
        raise UserError(
            f"--text: model.family={config.model.family} on data.kind={config.data.kind} reads "
            "more than a text, or none; give --row"
        )
    tokenizer = kind.tokenizer(config.data, files.data_dir())
    (window,), _ = kind.shapes(config.data)["tokens"]
    tokens = np.array([[tokenizer.separator, *tokenizer.encode(text)]], np.int32)
    if tokens.shape[1] > window:
        raise UserError(
            f"--text has {tokens.shape[1]} tokens with the mark before it, and the run reads "
            f"{window}; shorten it"
        )
    places = np.arange(tokens.shape[1], dtype=np.int32)[None]
    batch = {"tokens": tokens, "positions": places}
    return Example(batch, of_row(config, 0).reference, "the text that was given", _names(config))


def _names(config: RunConfig) -> Callable[[int], str]:
    make = choices.kind(config.data).tokenizer
    if make is None:
        return str
    tokenizer = make(config.data, files.data_dir())

    def name(token: int) -> str:
        if token == tokenizer.separator or not 0 <= token < len(tokenizer):
            return "¶"
        return str(tokenizer.decode([token]).decode(errors="backslashreplace"))

    return name


# ---- what is traced back


@dataclass(frozen=True)
class Input:
    """The array that a model's prediction is a function of."""

    field: str | None  # of the batch; None: what the first lookup of the model makes
    x: Array  # of the one row
    baseline: Array  # of x's shape: the mean over rows; of a lookup, over their places too
    said: str  # what the baseline is

    def put(self, module: Any, params: Any, batch: Batch, x: Array) -> Any:
        """The model's outputs with x in the place of its input."""
        if self.field is not None:
            return module.apply({"params": params}, {**batch, self.field: x})
        with putting(lambda _: x):
            return module.apply({"params": params}, batch)

    def groups(self, side: int) -> np.ndarray:
        """Parts that are taken away at once, as `attributions.occlusion` takes them: squares of an
        image of `side` pixels, a place of a text, a feature.
        """
        shape = self.x.shape
        if self.field is None:
            return np.arange(int(np.prod(shape[:-1]))).reshape(*shape[:-1], 1)
        if len(shape) == 4:
            return squares(shape[1], shape[2], side)
        return np.arange(int(np.prod(shape[1:]))).reshape(1, *shape[1:])


def input_of(config: RunConfig, module: Any, params: Any, example: Example) -> Input:
    """Raises UserError for a model that reads neither numbers nor tokens by a lookup."""
    reads = choices.family(config.model).reads
    # A family that says nothing of what it reads takes the numbers that there are.
    for field in (n for n in INPUTS if n in example.batch and (n in reads or not reads)):
        known = np.asarray(example.reference[field])
        said = f"the mean of {len(known)} rows of the validation set"
        mean = jnp.asarray(known.mean(axis=0, keepdims=True))
        return Input(field, jnp.asarray(example.batch[field]), mean, said)
    x, rows = (_looked_up(module, params, b) for b in (example.batch, example.reference))
    if x is None or rows is None:
        raise UserError(
            f"model.family={config.model.family} reads neither numbers nor tokens that are looked "
            "up: there is nothing that its prediction could be traced back to"
        )
    mean_D = rows.reshape(-1, rows.shape[-1]).mean(axis=0)
    said = "the mean of what tokens of the validation set are looked up as"
    return Input(None, x, jnp.broadcast_to(mean_D, x.shape), said)


def _looked_up(module: Any, params: Any, batch: Batch) -> Array | None:
    """What the first lookup of a model makes, float32."""

    def run(batch: Batch) -> Any:
        met = list[Array]()

        def put(x: Array) -> Array:
            met.append(x)
            return x

        with putting(put):
            module.apply({"params": params}, batch)
        return met[0].astype("float32") if met else None

    found: Array | None = jax.jit(run)(dict(batch))
    return found
