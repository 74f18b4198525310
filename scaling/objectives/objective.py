"""What an objective is: sums with counts, per row of the batch.

A loss is never a mean here. It is a total and a count, so that adding over rows, microbatches,
hosts and evaluation batches is exact, and the mean is taken once, at the end. The train step
differentiates `Loss.loss` and divides by the count of all of them; the evaluator keeps the
rows apart for a standard error that is clustered by window.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast

import flax.struct
import jax

from scaling.config import DistillConfig, choices
from scaling.config.contracts import Player
from scaling.objectives import draws

Array = jax.Array
Batch = Mapping[str, Array]
Model = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # with its parameters: fields to outputs


class Network(Protocol):
    """A flax module, or what is applied as one."""

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """({"params": parameters}, batch, ...) -> outputs."""


@flax.struct.dataclass
class Sum:
    """A mean that has not been taken yet: float32 total and count, of any equal shape."""

    total: Array
    count: Array

    @property
    def mean(self) -> Array:
        """total / count."""
        return self.total / self.count


@flax.struct.dataclass
class Rows:
    """What one row (window, image) of the batch contributes; float32 [B], or [B, ...] in `sums`."""

    # What is differentiated, summed over the row's tokens; by name where there are players
    minimised: Array | Mapping[str, Array]
    penalties: dict[str, Array]  # added to it, each times its weight in the objective
    # Means, always with "loss", whose count is what gradients are divided by; and, of metrics with
    # a `finish`, other statistics that add up (`scaling/metrics`), which evaluation alone computes.
    sums: Mapping[str, Sum | Array]


@dataclass(frozen=True)
class Loss:
    """A pure function from outputs and batch to sums, and what follows from it.

    Most losses are `rows_of` one call of the model. One that calls it more than once, or draws
    random numbers, is `rows_by` in its place: of the model as a function, the batch, a key for each
    row (`draws.py`: the same however the batch is cut) and the hyper-parameters.
    """

    rows_of: Callable[[Mapping[str, Any], Batch], Rows] | None  # of model outputs and batch
    # Of the penalties that are on; without players
    weights: Mapping[str, float] = field(default_factory=dict)
    rows_by: Callable[[Model, Batch, Array, Mapping[str, Any]], Rows] | None = None
    fixed: Mapping[str, float] = field(default_factory=dict)  # hyper-parameters of an evaluation
    players: tuple[Player, ...] = ()  # filled in by `build`

    @property
    def draws(self) -> bool:
        """Whether rows are given keys: then one key serves all pieces of a batch."""
        return self.rows_by is not None

    def rows(self, model: Network, params: Any, batch: Batch) -> Mapping[str, Sum | Array]:
        """Sums of every row apart, each [B, ...], for evaluation: a row draws the same always."""
        if self.rows_by is not None:
            key = jax.random.key(0)
            return self._called(self.rows_by, model, params, batch, key, self.fixed).sums
        outputs = cast(Mapping[str, Any], model.apply({"params": params}, batch))
        return self._of(outputs, batch).sums

    def loss(
        self,
        model: Network,
        params: Any,
        batch: Batch,
        rng: Array,
        hparams: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Sum]]:
        """(what is differentiated, the sums that are means), both over the whole batch.

        `rng` is for losses that draw random numbers; what modules draw is in the batch
        (`scaling/models/dropout.py`). The weights of the penalties that are on are taken from
        `hparams`, where they may be traced: runs that differ in them share one program. None: the
        config's.

        With players it is the sum of `of_player` of each: of every parameter, the gradient is that
        of its own player's loss.
        """
        if self.players:
            each = [
                self.of_player(player, model, params, batch, rng, hparams)
                for player in self.players
            ]
            return functools.reduce(jax.numpy.add, [total for total, _ in each]), each[0][1]
        rows = self._trained(model, params, batch, rng, hparams)
        weights = self.weights if hparams is None else hparams
        total = cast(Array, rows.minimised).sum()
        for name in self.weights:
            total += weights[name] * rows.penalties[name].sum()
        return total, _means(rows)

    def of_player(
        self,
        player: Player,
        model: Network,
        params: Any,
        batch: Batch,
        rng: Array,
        hparams: Mapping[str, Any] | None = None,
    ) -> tuple[Array, dict[str, Sum]]:
        """As `loss`, what one of the players minimises: the others' parameters are constants."""
        held = {
            name: tree if name in player.parameters else jax.lax.stop_gradient(tree)
            for name, tree in params.items()
        }
        rows = self._trained(model, held, batch, rng, hparams)
        return cast(Mapping[str, Array], rows.minimised)[player.name].sum(), _means(rows)

    def _trained(self, model: Network, params: Any, batch: Batch, rng: Array, hparams: Any) -> Rows:
        if self.rows_by is not None:
            values = self.fixed if hparams is None else hparams
            return self._called(self.rows_by, model, params, batch, rng, values)
        outputs = model.apply({"params": params}, batch)
        return self._of(cast(Mapping[str, Any], outputs), batch)

    def _of(self, outputs: Mapping[str, Any], batch: Batch) -> Rows:
        if self.rows_of is None:
            raise ValueError("a loss is either rows_of outputs or rows_by the model")
        return self.rows_of(outputs, batch)

    def _called(
        self, rows_by: Any, model: Network, params: Any, batch: Batch, key: Array, hparams: Any
    ) -> Rows:
        def call(fields: Mapping[str, Any]) -> Mapping[str, Any]:
            return cast(Mapping[str, Any], model.apply({"params": params}, fields))

        return cast(Rows, rows_by(call, batch, draws.keys(key, batch), hparams))


def _means(rows: Rows) -> dict[str, Sum]:
    means = {name: s for name, s in rows.sums.items() if isinstance(s, Sum)}
    return cast(dict[str, Sum], jax.tree.map(lambda x_B: x_B.sum(), means))


def build(config: Any, distill: DistillConfig | None = None) -> Loss:
    """The loss of a resolved objective config, towards a teacher's predictions too where a run has
    one.
    """
    record = choices.objective(config)
    loss = cast(Loss, choices.load(record.rows)(config))
    if distill is not None and distill.weight and record.soft is not None:
        from scaling.objectives.distillation import distilled  # which builds on this file

        return distilled(loss, distill, record.soft)
    return replace(loss, players=record.players) if record.players else loss
