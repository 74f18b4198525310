"""How near the samples of a run lie to its data, by what the model of another run sees in both.

Takes two run directories: of a model that makes samples, and of a judge, trained on the same data,
whose model gives features. Gives Fréchet distances of the features, and images between two, on one
device. Called by `launch.py samples`.
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from scaling import data
from scaling.config import RunConfig, choices
from scaling.devices import sharding
from scaling.errors import UserError
from scaling.metrics.moments import Gaussian, frechet_distance
from scaling.records import RunDirectory
from scaling.train import state as state_lib
from scaling.train.opened import newest

_ROWS = 256  # at a time


@dataclass(frozen=True)
class Judged:
    """Distances from as many validation examples, in squared units of the judge's features.

    With n examples each is too large by a term that falls as 1 / n: compare those of one count.
    """

    step: int  # updates made
    judge: str  # name of its run
    examples: int  # of every set
    trained: float  # of samples of the newest checkpoint (of the averaged weights, if there are)
    untrained: float  # of samples of the model as it began
    real: float  # of examples of the train split: what samples could reach
    # Share of samples of a class that was asked for which the judge gives that class; None: of a
    # model that is not conditional
    right: float | None


@dataclass(frozen=True)
class Samples:
    """float32 images [N, Y, X, C], standardised as the data are."""

    trained: np.ndarray
    untrained: np.ndarray
    real: np.ndarray  # of the validation split


class Model:
    """The newest and the first parameters of a run, on one device."""

    def __init__(self, run: RunDirectory):
        """Raises CheckpointError where there is none yet."""
        self.run, self._opened = run, newest(run)
        self.config, state = self._opened.config, self._opened.state
        self.step = int(state.step)
        self.params = state.evaluated
        self._compiled = functools.cache(self._compile)

    @functools.cached_property
    def first(self) -> Any:
        """The parameters before the first update."""
        return state_lib.init(self._opened.pieces, self.config, self._opened.plan).params

    @property
    def conditional(self) -> bool:
        """Whether what it makes depends on a class."""
        return bool(getattr(self.config.model, "conditional", False))

    def _compile(self, name: str) -> Any:
        model = self._opened.pieces.model
        return jax.jit(lambda p, fields: model.apply({"params": p}, fields)[name])

    def output(self, name: str, params: Any, fields: Mapping[str, Any]) -> np.ndarray:
        """The output `name` of rows that have these fields, each [N, ...]: [N, ...]."""
        apply, count = self._compiled(name), len(next(iter(fields.values())))
        places = np.minimum(np.arange(-(-count // _ROWS) * _ROWS), count - 1)
        places = places if count > _ROWS else np.arange(count)
        with sharding.context(self._opened.plan.mesh):
            pieces = []
            for i in range(0, len(places), _ROWS):
                rows = {field: x[places[i : i + _ROWS]] for field, x in fields.items()}
                pieces.append(apply(params, rows))
        return np.concatenate([np.asarray(piece) for piece in pieces])[:count]


def gives(config: RunConfig, output: str) -> bool:
    """Whether a run's model gives an output."""
    return output in choices.family(config.model).gives


def judge(run: RunDirectory, by: Model, seed: int = 0) -> tuple[Judged, Samples]:
    """The distances of a run, and what they are of.

    Raises UserError where the run's model makes no samples, the judge's gives no features of an
    image, or they were trained on different data.
    """
    config = run.config()
    if not gives(config, "sample"):
        raise UserError(f"{run.path.name}: model.family={config.model.family} makes no samples")
    if not gives(by.config, "features") or choices.family(by.config.model).reads != {"image"}:
        raise UserError(
            f"{by.run.path.name}: model.family={by.config.model.family} gives no features of "
            "images; give --judge another run"
        )
    if by.config.data.corpus != config.data.corpus:
        raise UserError(
            f"{by.run.path.name} was trained on other data ({by.config.data.corpus}) than "
            f"{run.path.name} ({config.data.corpus}); give --judge a run on the same"
        )
    real = data.eval_batches(config, "val")
    held_out = real.examples.take(real.selection)
    validation = held_out["image"]
    count, seen = len(validation), data.train_batches(config)
    trained_on = seen.examples.take(seen.selection[:count])["image"]
    model = Model(run)
    asked = {"key": jax.random.split(jax.random.key(seed), count)}
    if model.conditional:
        asked["label"] = held_out["label"]
    made = [model.output("sample", params, asked) for params in (model.params, model.first)]
    wanted = _moments(by, validation)
    trained, untrained, reached = (
        frechet_distance(_moments(by, x), wanted) for x in (*made, trained_on)
    )
    right = None
    if model.conditional and gives(by.config, "out"):
        said = by.output("out", by.params, {"image": made[0]}).argmax(axis=-1)
        right = float(np.mean(said == held_out["label"]))
    found = Judged(model.step, by.run.path.name, count, trained, untrained, reached, right)
    return found, Samples(made[0], made[1], validation)


def _moments(by: Model, images: np.ndarray) -> Gaussian:
    features = by.output("features", by.params, {"image": images}).astype(np.float64)
    return Gaussian(features.mean(axis=0), np.cov(features, rowvar=False))


def between(model: Model, images: int, rows: int = 6, seed: int = 0) -> dict[str, np.ndarray]:
    """What a model makes on the way from one latent to another, of several pairs.

    The way is an arc of as many equal angles as there are steps, so that the numbers on it are as
    large as those that are drawn (White 2016, arXiv 1609.04468, section 2.1).

    Returns:
      row -> float32 images [N, Y, X, C]: a row for each class, where the model is conditional, all
      from the same first latent to the same last one; else one for each of `rows` pairs.
    """
    classes = int(model.config.model.classes) if model.conditional else 0  # type: ignore[attr-defined]
    pairs, latent = 1 if classes else rows, int(model.config.model.latent)  # type: ignore[attr-defined]
    ends = np.random.default_rng(seed).normal(size=(2, pairs, 1, latent))
    lengths = np.linalg.norm(ends, axis=-1, keepdims=True)
    cosine = np.sum(ends[0] * ends[1], axis=-1, keepdims=True) / (lengths[0] * lengths[1])
    angle, part = np.arccos(np.clip(cosine, -1, 1)), np.linspace(0, 1, images)[None, :, None]
    found = np.sin((1 - part) * angle) * ends[0] + np.sin(part * angle) * ends[1]
    latents = (found / np.sin(angle)).astype(np.float32)
    if not classes:
        each = [{"latent": one} for one in latents]
        names = [f"pair {i + 1}" for i in range(pairs)]
    else:
        each = [
            {"latent": latents[0], "label": np.full(images, label, np.int32)}
            for label in range(classes)
        ]
        names = [f"class {label}" for label in range(classes)]
    made = [model.output("sample", model.params, fields) for fields in each]
    return dict(zip(names, made, strict=True))


def as_record(found: Judged) -> dict[str, Any]:
    """As `RunDirectory.write_samples` takes it."""
    return asdict(found)
