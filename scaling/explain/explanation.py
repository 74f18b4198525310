"""Explains one prediction of a run: maps over its input, attention, and the stream behind blocks.

Takes a run with its newest state and an `Example`; gives a `records.explanation.Explanation`. The
model is run on one device, unrolled, and asked nothing that its family would have to know of
(`train/inside.py`). Called by `launch.py explain`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from scaling import families
from scaling.config import EvalSetConfig, RunConfig, choices, override, passes, run_name
from scaling.errors import UserError
from scaling.explain import attributions
from scaling.explain.example import Batch, Example, Input, input_of
from scaling.objectives import objective
from scaling.records.explanation import METHODS, Attention, Explanation, Map, Reading
from scaling.studies import study
from scaling.train import circuits, inside
from scaling.train import state as state_lib
from scaling.train.evaluate import Evaluator
from scaling.train.opened import Opened
from scaling.transforms import transform

Array = jax.Array
_ATOMS = ("logits", "out", "tags")  # outputs that can be explained


@dataclass(frozen=True)
class Predicted:
    """Which number of a model's outputs is explained."""

    name: str  # of the outputs
    at: tuple[int, ...]  # in the array without its row
    classes: bool  # log-probabilities of classes, rather than numbers as they stand

    def all(self, outputs: Mapping[str, Any]) -> Array:
        """What the model predicts of one row, float32 [..., C]."""
        found = families.predictions(outputs)[self.name][0].astype(jnp.float32)
        return jax.nn.log_softmax(found) if self.classes else found

    def of(self, outputs: Mapping[str, Any]) -> Array:
        """The number."""
        return self.all(outputs)[self.at]


def explain(
    opened: Opened,
    example: Example,
    methods: Sequence[str] | None = None,
    place: int | None = None,
    side: int | None = None,
) -> Explanation:
    """Of what the model holds likeliest.

    Args:
      methods: of `METHODS`; None: all that the model and its data give.
      place: of a text, whose prediction is explained; None: the last that counts.
      side: pixels of the squares that are taken out of an image; None: an eighth of its height.

    Raises:
      UserError: nothing of the model's outputs can be explained, a place that there is not, or a
        method that the model does not give.
    """
    config, module = opened.config, inside.plain(opened.config)
    params = opened.used
    batch = example.batch
    outputs = jax.jit(lambda p, b: module.apply({"params": p}, b))(params, dict(batch))
    what = _predicted(config, outputs, batch, place)
    input_ = input_of(config, module, params, example)
    found = _Explained(opened, example, module, params, what, input_, side)
    chosen = found.fitting if methods is None else methods
    for method in chosen:
        if method not in found.fitting:
            raise UserError(
                f"--method={method} is nothing that model.family={config.model.family} on "
                f"data.kind={config.data.kind} gives; of it there are {', '.join(found.fitting)}"
            )
    numbers = np.asarray(what.all(outputs))
    value, name = float(numbers[what.at]), example.names
    said = f"log-probability of {name(what.at[-1])!r}, {value:.3f}"
    if not what.classes:
        said = f"number {what.at[-1]} that the model gives, {value:.4g}"
    return Explanation(
        run=run_name(config),
        step=int(opened.state.step),
        example=example.said,
        predicted=name(what.at[-1]) if what.classes else f"{value:.4g}",
        said=said,
        true=_truth(example, what),
        baseline=input_.said,
        place=what.at[0] if len(what.at) > 1 else None,
        pieces=found.pieces,
        image=np.asarray(input_.x[0]) if input_.x.ndim == 4 and input_.field else None,
        maps=[found.map(m) for m in chosen if m in ("gradients", "occlusion")],
        attention=found.attention() if "attention" in chosen else (),
        lens=found.lens() if "lens" in chosen else (),
        layers=layers(opened) if "layers" in chosen else {},
    )


def _predicted(
    config: RunConfig, outputs: Mapping[str, Any], batch: Batch, place: int | None
) -> Predicted:
    found = {n: x for n, x in families.predictions(outputs).items() if n in _ATOMS}
    if not found:
        raise UserError(
            f"model.family={config.model.family} predicts no token, class or number of a row that "
            "could be explained"
        )
    name, values = next(iter(found.items()))
    fields = choices.kind(config.data).fields
    what = Predicted(name, (), name != "out" or "label" in fields)
    if values.ndim == 2:
        if place is not None:
            raise UserError(f"--place={place}: the model makes one prediction of a whole row")
        return dataclasses.replace(what, at=(int(values[0].argmax()) if what.classes else 0,))
    last = values.shape[1] - 1
    if "loss_mask" in batch and (counts := np.flatnonzero(batch["loss_mask"][0])).size:
        last = int(counts[-1])
    place = last if place is None else place
    if not 0 <= place < values.shape[1]:
        raise UserError(f"--place={place}: the text has the places 0 to {values.shape[1] - 1}")
    return dataclasses.replace(what, at=(place, int(values[0, place].argmax())))


def _truth(example: Example, what: Predicted) -> str | None:
    if len(what.at) > 1:
        known = example.batch.get("targets" if what.name == "logits" else "tags")
        return None if known is None else example.names(int(known[0][what.at[0]]))
    if "label" in example.batch:
        return str(int(example.batch["label"][0]))
    known = example.batch.get("targets")
    return None if known is None else f"{float(known[0][what.at[0]]):.4g}"


@dataclass(frozen=True)
class _Explained:
    """What the methods share."""

    opened: Opened
    example: Example
    module: Any
    params: Any
    what: Predicted
    input: Input
    side: int | None

    @functools.cached_property
    def fitting(self) -> Sequence[str]:
        """The methods that the model and its data give."""
        stacked = passes.stack(self.opened.config) is not None
        there = {"gradients", "occlusion"} | ({"lens", "layers"} if stacked else set())
        there |= {"attention"} if self._weights else set()
        return [method for method in METHODS if method in there]

    @property
    def pieces(self) -> Sequence[str]:
        """In words, what stands at each place of the maps."""
        if self.input.field is None:
            return self.example.pieces
        flat = np.asarray(self.input.x[0]).ravel()
        return () if self.input.x.ndim == 4 else [f"{value:.2g} " for value in flat]

    def map(self, method: str) -> Map:
        """With what is left of it where the weights are drawn anew."""
        found = self._map(method, self.params)
        pair = np.stack([found.scores, self._map(method, self._redrawn).scores])
        pair = pair.reshape(2, -1)
        pair = pair[:, (pair != 0).any(axis=0)]  # what is never seen says nothing
        if any(len(np.unique(np.abs(scores))) < 3 for scores in pair):
            return found
        same, sizes = (float(stats.spearmanr(*x).statistic) for x in (pair, np.abs(pair)))
        return dataclasses.replace(found, redrawn=same, redrawn_sizes=sizes)

    @functools.cached_property
    def _redrawn(self) -> Any:
        """Parameters as used, as they would begin with another seed."""
        config = override(self.opened.config, {"seed": self.opened.config.seed + 1})
        drawn = state_lib.init(self.opened.pieces, config, self.opened.plan).params
        return transform.used(config, drawn)

    @functools.cached_property
    def _of(self) -> attributions.Of:
        batch = {name: jnp.asarray(x) for name, x in self.example.batch.items()}

        def of(params: Any, x: Array) -> Array:
            return self.what.of(self.input.put(self.module, params, batch, x))

        return of

    def _map(self, method: str, params: Any) -> Map:
        x, baseline = self.input.x, self.input.baseline
        if method == "gradients":
            found = attributions.integrated_gradients(self._of, params, x, baseline)
            scores = self._shown(found.scores.sum(axis=-1) if self._wide else found.scores)
            return Map(method, scores, found.explained, found.gap, found.steps)
        groups = self.input.groups(self.side or max(1, x.shape[1] // 8))
        lost = attributions.occlusion(self._of, params, x, baseline, groups)
        scores = lost[groups[..., 0] if self._wide else groups]
        return Map(
            method, self._shown(scores), attributions.difference(self._of, params, x, baseline)
        )

    @property
    def _wide(self) -> bool:
        """Whether the input's last axis is channels of a place."""
        return self.input.field is None or self.input.x.ndim == 4

    def _shown(self, scores: np.ndarray) -> np.ndarray:
        """[Y, X] of an image, else [L]."""
        return scores[0] if scores.ndim == 3 and self.input.field else scores.ravel()

    @functools.cached_property
    def _weights(self) -> Mapping[str, np.ndarray]:
        seen = functools.partial(inside.attention, self.module)
        found = jax.jit(seen)(self.params, dict(self.example.batch))
        return {name: np.asarray(x[0]) for name, x in found.items()}

    def attention(self) -> list[Attention]:
        """Of every layer, with what its parts do on random text that is read twice."""
        config = self.opened.config
        if not passes.copies(config):
            return [Attention(name, w) for name, w in self._weights.items()]
        loss = objective.build(config.objective)
        measure = jax.jit(functools.partial(circuits.statistics_of, self.module, loss))
        found = measure(self.params, dict(self.example.reference))
        scores = {}
        for name in ("induction", "previous_token"):
            total_AxHx2 = np.asarray(found[name], np.float64).sum(axis=0)
            scores[name] = total_AxHx2[..., 0] / total_AxHx2[..., 1]
        pairs = zip(scores["induction"], scores["previous_token"], strict=True)
        return [
            Attention(name, w, *of)
            for (name, w), of in zip(self._weights.items(), pairs, strict=True)
        ]

    def lens(self) -> list[Reading]:
        """What the stream says before the first block and behind each."""
        depth, found = self.opened.config.model.depth, []
        for blocks in range(depth + 1):
            cut = inside.Cut(self.module, blocks, depth)
            run: Callable[..., Any] = jax.jit(lambda p, b, cut=cut: cut.apply({"params": p}, b))
            said = np.asarray(self.what.all(run(self.params, dict(self.example.batch))))
            rows = said.reshape(-1, said.shape[-1])
            best = rows.argmax(axis=-1)
            likeliest = [self.example.names(int(token)) for token in best]
            shown = rows.max(axis=-1)
            mine = float(said[self.what.at])
            if self.what.classes:
                shown, mine = np.exp(shown), float(np.exp(mine))
            found.append(Reading(blocks, likeliest, shown, mine))
        return found


def layers(opened: Opened) -> dict[int, dict[str, float]]:
    """What the stream behind each block says of the validation set: the loss by the logit lens, and
    where examples have a label, a linear probe.
    """
    config, depth = opened.config, opened.config.model.depth
    sets = {"val": config.evals.sets["val"]}
    probed = "label" in choices.kind(config.data).fields
    for blocks in range(depth + 1):
        sets[f"lens{blocks}"] = EvalSetConfig(by="lens", blocks=blocks)
        if probed:
            sets[f"probe{blocks}"] = EvalSetConfig(by="features", blocks=blocks)
    evals = dataclasses.replace(config.evals, sets=sets)
    asked = study.resolve(dataclasses.replace(config, evals=evals))
    numbers = Evaluator(asked, opened.pieces, opened.plan)(opened.state.evaluated)
    shown = [n for n, m in choices.objective(config.objective).metrics.items() if m.tabled]
    return {
        blocks: {n: v for n, v in numbers[f"lens{blocks}"].items() if n in shown}
        | ({"probe_accuracy": numbers[f"probe{blocks}"]["probe_accuracy"]} if probed else {})
        for blocks in range(depth + 1)
    }
