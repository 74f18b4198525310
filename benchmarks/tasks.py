"""What the configs of five tasks reach as they stand, over seeds, and what is asked of them.

    python launch.py sweep --experiment=experiments/baselines.py:tasks --workdir=out
    python -m benchmarks.tasks --workdir=out

Prints a line a task: the mean over seeds of what it is measured by, the standard deviation between
them, the least and the most, and whether every seed is past the bar. Features are measured by how
much a probe of 100 labels gains on the encoder as it began, with the same seed.
"""

import argparse

import pandas as pd

from benchmarks import of_study
from experiments.baselines import get_study
from scaling.records.tables import table

BOTH = ("image_to_text", "text_to_image")
LESSER = "lesser of both ways"
PROBE, GAIN, RATE = "probe_accuracy/probe", "gain", "optim.peak_lr"
# Objective -> what it is measured by, the bar, and whether that is to be exceeded.
BARS = {
    "tagging": ("accuracy", 0.97, True),  # of tokens
    "spans": ("exact_match", 0.80, True),
    "contrastive": (LESSER, 0.90, True),  # at rank one among 100
    "contrastive_views": (GAIN, 0.10, True),
    "ctc": ("word_error/texts", 0.05, False),
}


def judged(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a task that has finished runs: `task`, `measure`, `bar`, `runs`, `mean`, `deviation`
    (of the sample; NaN of one run), `least`, `most`, and whether all runs are `past` the bar.

    Args:
      frame: the table of the study's runs.
    """
    done = frame[frame["status"] == "done"].assign(**{GAIN: float("nan")})
    if set(BOTH) <= set(done):
        done[LESSER] = done[[*BOTH]].min(axis=1)
    if PROBE in done and RATE in done:  # which are columns of runs that differ in them
        # The encoder as it began took one step, at a rate of 0.
        began = done[RATE] == 0
        untrained = done[began].set_index("seed")[PROBE]
        done[GAIN] = done[PROBE] - done["seed"].map(untrained)
        done = done[~began]
    rows = []
    for task, (measure, bar, more) in BARS.items():
        of = done[done["objective"] == task]
        found = of[measure].dropna() if measure in of else of["loss"][:0]
        if found.empty:
            continue
        past = (found >= bar if more else found <= bar).all()
        row = {"task": task, "measure": measure, "bar": bar, "runs": len(found)}
        row |= {"mean": found.mean(), "deviation": found.std()}
        rows.append(row | {"least": found.min(), "most": found.max(), "past": bool(past)})
    return pd.DataFrame(rows)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="out", help="of the study")
    given = parser.parse_args()
    done = [run for _, run in of_study.finished(get_study("tasks"), given.workdir)]
    found = judged(table(done)) if done else pd.DataFrame()
    if found.empty:
        raise of_study.nothing(given.workdir, "baselines.py:tasks")
    print(found.round(4).to_string(index=False))


if __name__ == "__main__":
    main()
