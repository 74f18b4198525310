"""The resolved config of every config file and of every run of every study, as sorted text; and the
names of runs, with their fingerprints.

A review then shows which hyper-parameter moved, and where. `make golden` rewrites the files; the
corpus is a stand-in of fixed size, so that they do not depend on the Python that runs them. A name
that is stored is where people's finished runs lie: `make golden` only adds to them, and

    python tests/golden.py --rename

replaces those that have moved, on purpose.
"""

import pathlib
import sys
from typing import Any

from golden_runs import RUNS

from scaling.config import RunConfig, choices, fingerprint, flat, override, run_name
from scaling.config.contracts import Facts
from scaling.config.resolve import resolve
from scaling.costs import sizes
from scaling.studies import study

REPOSITORY = pathlib.Path(__file__).parents[1]
FOLDER = pathlib.Path(__file__).parent / "golden"
NAMES = FOLDER / "fingerprints.txt"  # a run a line: what it is, fingerprint, name
TOKENS, HELD_OUT = 10_000_000, 400_000  # of the stand-in
IMAGES = {"height": 8, "image_width": 8, "channels": 1, "classes": 10}
SIZES = {
    "text": {"vocab": 257},
    "images": IMAGES,
    "vectors": {"features": 8, "targets": 1},
    "sequences": {"vocab": 16},
    "facts": {"vocab": 65},
    "triples": {"entities": 100, "relations": 12},
    "scenes": {
        **{"height": 16, "image_width": 16, "channels": 1, "classes": 10},
        **{"vocab": 257, "text_len": 40},
    },
    "speech": {
        **{"vocab": 257, "samples": 16_000, "transcript_len": 29},
        **{"sample_rate": 8000, "samples_per_token": 200},
    },
    "denoising": {"vocab": 260},
    "passages": {"vocab": 257, "passages": 1},
    "labelled": {"vocab": 257, "classes": 12},
    "tagged": {"vocab": 257, "tags": 8},
    "questions": {"vocab": 257, "spans": 1},
    "multitask": {
        **{"vocab": 257, "classes": 12, "tags": 8, "spans": 1, "masked": 1, "several": 4},
        **{f"task {name}": 10_000 for name in ("labelled", "tagged", "questions", "text")},
    },
    "pairs": {"vocab": 257, "source_len": 10, "target_len": 20},
}


def files(folder: str) -> list[pathlib.Path]:
    """The Python files of configs/ or experiments/."""
    return sorted(p for p in (REPOSITORY / folder).glob("*.py") if p.name != "__init__.py")


def resolved(config: RunConfig) -> RunConfig:
    """The run on the stand-in."""
    known = SIZES[config.data.kind] | (choices.family(config.model).stated(config.model) or {})
    # A model may have other outputs than its data have classes.
    if classes := getattr(config.data, "classes", None):
        known["classes"] = classes

    def stand_in(data: Any, train: Any) -> Facts:
        units = data.units_per_example
        return Facts("stand-in", TOKENS // units, HELD_OUT // units, known)

    return resolve(config, stand_in, sizes.size)


def _resolve(config: RunConfig) -> dict[str, str]:
    return {name: repr(value) for name, value in flat(resolved(config)).items()}


def given() -> dict[str, RunConfig]:
    """What is said of a run -> the run, unresolved: every config file, the first and last run of
    every study, their debug forms, and `RUNS`.
    """
    found = {}
    for arg in ("", "debug"):
        form = f" {arg}" if arg else ""
        for path in files("configs"):
            found[f"config {path.stem}{form}"] = study.load_config(f"{path}:{arg}")
        for path in files("experiments"):
            runs = study.load_study(f"{path}:{arg}").configs(resolved)
            found[f"study {path.stem}{form}, first"] = runs[0]
            found[f"study {path.stem}{form}, last"] = runs[-1]
    for what, (spec, overrides) in RUNS.items():
        found[what] = override(study.load_config(f"{REPOSITORY}/{spec}"), overrides)
    return found


def names() -> dict[str, str]:
    """What is said of a run -> its fingerprint and its name, now."""
    runs = {what: resolved(config) for what, config in given().items()}
    return {what: f"{fingerprint(run)} {run_name(run)}" for what, run in runs.items()}


def stored_names() -> dict[str, str]:
    """`names` as they are stored."""
    lines = NAMES.read_text().splitlines() if NAMES.exists() else []
    return dict(line.split(": ", 1) for line in lines)


def expected() -> dict[str, str]:
    """File name -> text, for everything that is stored."""
    out = {}
    for arg in ("", "debug"):
        suffix = f".{arg}" if arg else ""
        for path in files("configs"):
            values = _resolve(study.load_config(f"{path}:{arg}"))
            text = "".join(f"{name} = {value}\n" for name, value in sorted(values.items()))
            out[f"config.{path.stem}{suffix}.txt"] = text
        for path in files("experiments"):
            out[f"study.{path.stem}{suffix}.txt"] = _study(f"{path}:{arg}")
    return out


def _study(spec: str) -> str:
    """What all runs share, then what each has of its own."""
    runs = [_resolve(config) for config in study.load_study(spec).configs(resolved)]
    fields = sorted({name for run in runs for name in run})
    shared = [f for f in fields if len({run.get(f) for run in runs}) == 1]
    lines = [f"{name} = {runs[0][name]}" for name in shared]
    for i, run in enumerate(runs):
        own = [f"{name}={run[name]}" for name in fields if name not in shared and name in run]
        lines.append(f"run {i}: {' '.join(own)}")
    return "\n".join(lines) + "\n"


def _write(rename: bool) -> int:
    """Rewrite the files. 1: names have moved, and stay as they are stored."""
    FOLDER.mkdir(exist_ok=True)
    texts = expected()
    for old in FOLDER.glob("*.*.txt"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    print(f"{len(texts)} files in {FOLDER}")
    now = names()
    moved = {what: name for what, name in stored_names().items() if now.get(what, name) != name}
    kept = {} if rename else moved
    NAMES.write_text("".join(f"{what}: {kept.get(what, now[what])}\n" for what in now))
    print(f"{len(now)} names in {NAMES}, {len(moved)} of them moved")
    for what in kept:
        print(f"{what}: {moved[what]} would be {now[what]}; --rename takes it")
    return 1 if kept else 0


if __name__ == "__main__":
    sys.exit(_write(rename="--rename" in sys.argv[1:]))
