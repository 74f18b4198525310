"""How near the samples of a run lie to its data, by what the model of another run sees in both.

Takes two run directories: of a model that makes samples, and of a judge, trained on the same data,
whose model gives features. Gives Fréchet distances of the features, on one device. Called by
`launch.py samples`.
"""

import functools
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

    def _compile(self, name: str, field: str) -> Any:
        model = self._opened.pieces.model
        return jax.jit(lambda p, x: model.apply({"params": p}, {field: x})[name])

    def output(self, name: str, params: Any, field: str, values: Any) -> np.ndarray:
        """The output `name` of rows that have one field: [N, ...]."""
        apply, count = self._compiled(name, field), len(values)
        places = np.minimum(np.arange(-(-count // _ROWS) * _ROWS), count - 1)
        places = places if count > _ROWS else np.arange(count)
        with sharding.context(self._opened.plan.mesh):
            pieces = [
                apply(params, values[places[i : i + _ROWS]]) for i in range(0, len(places), _ROWS)
            ]
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
    validation = real.examples.take(real.selection)["image"]
    count, seen = len(validation), data.train_batches(config)
    trained_on = seen.examples.take(seen.selection[:count])["image"]
    model = Model(run)
    keys = jax.random.split(jax.random.key(seed), count)
    made = [model.output("sample", params, "key", keys) for params in (model.params, model.first)]
    wanted = _moments(by, validation)
    far = [frechet_distance(_moments(by, x), wanted) for x in (*made, trained_on)]
    found = Judged(model.step, by.run.path.name, count, *far)
    return found, Samples(made[0], made[1], validation)


def _moments(by: Model, images: np.ndarray) -> Gaussian:
    features = by.output("features", by.params, "image", images).astype(np.float64)
    return Gaussian(features.mean(axis=0), np.cov(features, rowvar=False))


def as_record(found: Judged) -> dict[str, Any]:
    """As `RunDirectory.write_samples` takes it."""
    return asdict(found)
