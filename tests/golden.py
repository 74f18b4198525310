"""The resolved config of every config file and of every run of every study, as sorted text.

A review then shows which hyper-parameter moved, and where. `make golden` rewrites the files; the
corpus is a stand-in of fixed size, so that they do not depend on the Python that runs them.
"""

import dataclasses
import pathlib

from scaling.config import RunConfig, flat, ladder
from scaling.config.resolve import CorpusFacts, resolve
from scaling.studies import study

REPOSITORY = pathlib.Path(__file__).parents[1]
FOLDER = pathlib.Path(__file__).parent / "golden"
STAND_IN = CorpusFacts("stand-in", vocab=257, train_tokens=10_000_000, validation_tokens=400_000)


def files(folder: str) -> list[pathlib.Path]:
    """The Python files of configs/ or experiments/."""
    return sorted(p for p in (REPOSITORY / folder).glob("*.py") if p.name != "__init__.py")


def _resolve(config: RunConfig) -> dict[str, str]:
    stand_in = dataclasses.replace(STAND_IN, vocab=config.model.vocab or STAND_IN.vocab)
    facts = resolve(config, lambda data, train: stand_in, ladder.size)
    return {name: repr(value) for name, value in flat(facts).items()}


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
    runs = [_resolve(config) for config in study.load_study(spec).configs()]
    fields = sorted({name for run in runs for name in run})
    shared = [f for f in fields if len({run.get(f) for run in runs}) == 1]
    lines = [f"{name} = {runs[0][name]}" for name in shared]
    for i, run in enumerate(runs):
        own = [f"{name}={run[name]}" for name in fields if name not in shared and name in run]
        lines.append(f"run {i}: {' '.join(own)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    texts = expected()
    for old in FOLDER.glob("*.txt"):
        if old.name not in texts:
            old.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text)
    print(f"{len(texts)} files in {FOLDER}")
