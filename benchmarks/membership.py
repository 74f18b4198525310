"""Who was trained on? A membership-inference attack on the runs of a study, over epsilon.

    python launch.py sweep --experiment=experiments/privacy.py:attack
    python -m benchmarks.membership --experiment=experiments/privacy.py:attack [--figure=FILE]

LiRA, online, with one variance for all examples (Carlini et al. 2022, arXiv 2112.03570, algorithm 1
and section VI): of runs that differ in which half of the examples they were trained on, each is
attacked with the others as its shadows. For an example the logit of its label's probability has a
mean over the shadows that were trained on it and one over those that were not; the score of the
attack is the logarithm of the ratio of two normal densities. Prints for each group of runs, alike
but for `train.subset_seed` and `seed`: epsilon, the area under the curve of true over false
positives, the advantage (the most that true exceed false ones), true positives at a hundredth false
ones, each with its standard error over the attacked runs, and the most that epsilon allows the
advantage to be.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from scaling import data
from scaling.errors import UserError
from scaling.families import predictions
from scaling.records import RunDirectory
from scaling.records.tables import table
from scaling.report import style
from scaling.studies import study
from scaling.train.ensemble import alike
from scaling.train.opened import newest

FALSE = 0.01  # false positives at which true ones are told
BATCH = 512


def scores(confidence: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Of the attack on each run with all others as its shadows [runs, examples]; more: trained on.
    NaN where no shadow was trained on the example, or all were.

    confidence: logits of the labels' probabilities [runs, examples]; member: bool, likewise.
    """
    out = np.full(confidence.shape, np.nan)
    for run in range(len(confidence)):
        shadow, inside = np.delete(confidence, run, axis=0), np.delete(member, run, axis=0)
        known = inside.any(axis=0) & ~inside.all(axis=0)
        if not known.any():
            continue
        log_p = []
        for which in (inside[:, known], ~inside[:, known]):
            mean = np.where(which, shadow[:, known], 0).sum(axis=0) / which.sum(axis=0)
            spread = max(np.sqrt(np.mean((shadow[:, known] - mean)[which] ** 2)), 1e-9)
            log_p.append(-np.log(spread) - 0.5 * ((confidence[run, known] - mean) / spread) ** 2)
        out[run, known] = log_p[0] - log_p[1]
    return out


def rates(score: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positives at every threshold, from 0 to 1."""
    order = np.argsort(-score, kind="stable")
    hits = member[order]
    last = np.append(np.diff(score[order]) != 0, True)  # equal scores are told apart by none
    true = np.cumsum(hits)[last] / max(hits.sum(), 1)
    false = np.cumsum(~hits)[last] / max((~hits).sum(), 1)
    return np.append(0.0, false), np.append(0.0, true)


def judged(score: np.ndarray, member: np.ndarray) -> dict[str, float]:
    """Area, advantage, and true positives at a hundredth false ones, of one attacked run."""
    known = np.isfinite(score)
    false, true = rates(score[known], member[known])
    return {
        "area": float(np.trapezoid(true, false)),
        "advantage": float((true - false).max()),
        "true_at_1": float(true[false <= FALSE].max()),
    }


def allowed(epsilon: float, delta: float) -> float:
    """The most that an advantage can be (Kairouz et al. 2015, arXiv 1311.0776, theorem 2.1)."""
    if np.isinf(epsilon):
        return 1.0
    return float((np.expm1(epsilon) + 2 * delta) / (np.exp(epsilon) + 1))


def confidences(run: RunDirectory) -> tuple[np.ndarray, np.ndarray]:
    """Logit of the label's probability of every training example [examples], and which of them the
    run was trained on.
    """
    one = newest(run)
    examples, subset = data.training_set(one.config)
    member = np.zeros(len(examples), bool)
    member[subset] = True

    @jax.jit
    def logits(batch: dict[str, Any]) -> jax.Array:
        outputs = predictions(one.pieces.model.apply({"params": one.used}, batch))
        return jax.nn.log_softmax(outputs["out"].astype("float32"))

    found = []
    for first in range(0, len(examples), BATCH):
        batch = examples.take(np.arange(first, min(first + BATCH, len(examples))))
        log_p, label = np.asarray(logits(batch), np.float64), np.asarray(batch["label"])
        rows = np.arange(len(label))
        own = log_p[rows, label]
        log_p[rows, label] = -np.inf
        found.append(own - np.logaddexp.reduce(log_p, axis=1))
    return np.concatenate(found), member


def attacked(runs: Sequence[RunDirectory]) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """A row on one group of runs, and the false and true positives of all of them together."""
    pairs = [confidences(run) for run in runs]
    confidence, member = (np.stack(part) for part in zip(*pairs, strict=True))
    score = scores(confidence, member)
    each = pd.DataFrame([judged(s, m) for s, m in zip(score, member, strict=True)])
    row = {"runs": len(runs), **each.mean(), **(each.sem().add_suffix("_se"))}
    known = np.isfinite(score)
    return row, *rates(score[known], member[known])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table; with --figure, draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--workdir", default="out")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args(arguments)
    configs = study.runs(study.load_study(asked.experiment))
    drawn = [
        RunDirectory.open(c, asked.workdir) for c in configs if c.train.subset_seed is not None
    ]
    found = [group for group in alike(drawn, {"train.subset_seed": 0}) if len(group) > 2]
    if not found:
        raise UserError(f"{asked.workdir} has no three finished runs of {asked.experiment}")
    rows, curves = [], []
    for group in found:
        row, false, true = attacked(group)
        frame, private = table(group), group[0].config().privacy
        epsilon = float(frame["epsilon"].iloc[0]) if "epsilon" in frame else np.inf
        losses = frame[["accuracy", "loss"]].mean().to_dict() if "accuracy" in frame else {}
        delta = private.delta if private.clip_norm is not None else 0.0
        rows.append({"epsilon": epsilon, **losses, **row, "allowed": allowed(epsilon, delta)})
        curves.append((epsilon, false, true))
    shown = pd.DataFrame(rows).sort_values("epsilon", ascending=False)
    print(shown.to_string(index=False, float_format=lambda v: f"{v:.4g}"))
    if asked.figure:
        draw(sorted(curves, key=lambda one: -one[0]), asked.figure)


def draw(curves: Sequence[tuple[float, np.ndarray, np.ndarray]], path: Path) -> None:
    """True over false positives, of every epsilon."""
    with style.styled():
        figure = Figure(figsize=(4.2, 3.6), layout="constrained")
        axes = figure.subplots()
        for k, (epsilon, false, true) in enumerate(curves):
            label = "not private" if np.isinf(epsilon) else f"epsilon {epsilon:.3g}"
            axes.plot(false, true, color=style.COLOURS[k % len(style.COLOURS)], label=label)
        axes.plot([1e-3, 1], [1e-3, 1], color="0.6", linestyle="--", label="guessing")
        axes.set(xscale="log", yscale="log", xlim=(1e-3, 1), ylim=(1e-3, 1.05),
                 xlabel="false positives", ylabel="true positives")  # fmt: skip
        axes.legend()
        figure.savefig(path, dpi=160)


if __name__ == "__main__":
    main()
