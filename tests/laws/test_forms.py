"""Every law returns its parameters from a table that it made, and stands still at them."""

import pathlib
from collections.abc import Mapping

import jax
import numpy as np
import pandas as pd
import pytest

from scaling.laws import LAWS, Options, fit, forms
from scaling.laws.law import Law

TRUE: dict[str, dict[str, float]] = {
    "power": {"A": 30, "alpha": 0.2},
    "power_floor": {"E": 1.5, "A": 40, "alpha": 0.3},
    "compute": {"E": 1.5, "A": 200, "gamma": 0.12},
    "broken_power": {"E": 0.5, "b": 20, "c0": 0.15, "c1": 0.3, "d1": 1e7, "f1": 0.4},
    "broken_power_2": {
        "E": 0.5, "b": 20, "c0": 0.1, "c1": 0.3, "d1": 1e6, "f1": 0.2, "c2": -0.2, "d2": 1e9,
        "f2": 0.2,
    },
    "m1": {"beta": 30, "c": 0.2},
    "m2": {"E": 1.0, "beta": 30, "c": 0.2},
    "m3": {"beta": 30, "gamma": 1e-8, "c": 0.2},
    "m4": {"E": 1.5, "top": 9.0, "a": 0.6, "s": 1e6, "c": 0.4},
    "kaplan": {"Nc": 8.8e13, "Dc": 5.4e13, "alpha_N": 0.076, "alpha_D": 0.095},
    "chinchilla": {"E": 1.8, "A": 480, "B": 2000, "alpha": 0.35, "beta": 0.37},
    "chinchilla_tied": {"E": 1.8, "A": 480, "B": 2000, "alpha": 0.35},
    "width_depth_tokens": {
        "E": 1.8, "A": 30, "B": 3, "C": 2000, "alpha": 0.6, "beta": 1.0, "gamma": 0.37,
    },
    "data_constrained": {
        "E": 1.87, "A": 521, "B": 1488, "alpha": 0.35, "beta": 0.35, "R_D": 15.4, "R_N": 5.3,
    },
    "routed": {"a": -0.08, "b": -0.1, "c": 0.004, "d": 2.9, "E_start": 2.0, "E_more": 200.0},
    "best_lr": {"k": 1.79, "a": -0.713, "b": 0.307},
    "best_batch": {"k": 0.58, "b": 0.571},
    "accuracy": {"chance": 0.25, "best": 0.95, "k": 3.0, "middle": 2.6},
    "multi_power": {
        "E": 2.0, "A": 0.5, "B": 300.0, "alpha": 0.5, "C": 2.0, "beta": 0.5, "gamma": 0.6,
    },
}  # fmt: skip
SLOWEST = ("m4", "multi_power", "broken_power_2")
SLOW = (
    "broken_power",
    "broken_power_2",
    "kaplan",
    "m3",
    "data_constrained",
    "m4",
    "multi_power",
    "width_depth_tokens",
)


def test_the_readme_lists_the_laws() -> None:
    text = (pathlib.Path(forms.__file__).parent / "README.md").read_text()
    section = text.split("## The laws\n")[1].split("\n## ")[0]
    rows = [line.split(" | ") for line in section.splitlines() if line.startswith("| `")][1:]
    assert [row[0] for row in rows] == [f"| `{name}`" for name in LAWS]
    for row, law in zip(rows, LAWS.values(), strict=True):
        assert row[1] == f"`{law.formula}`"
        assert row[3] == f"{law.source} |"
        assert all(f"`{c}`" in row[2].replace("`--x`", "`x`") for c in law.needs or law.columns)


def schedules() -> dict[str, np.ndarray]:
    """Four runs with different learning-rate schedules, a row every 20 steps after warm-up."""
    step = np.arange(120.0, 2001.0, 20.0)
    done = step / 2000
    shapes = [
        0.55 + 0.45 * np.cos(np.pi * done),
        np.where(done < 0.8, 1.0, 1 - 0.9 * (done - 0.8) / 0.2),
        np.ones_like(done),
        np.where(done < 0.5, 1.0, 0.3),
    ]
    return {
        "run": np.repeat(np.arange(4.0), len(step)),
        "step": np.tile(step, 4),
        "lr": 3e-3 * np.concatenate(shapes),
    }


def sizes(law: Law, rows: int = 60) -> dict[str, np.ndarray]:
    """Values of a law's columns, spread over the ranges that they have in practice."""
    rng = np.random.default_rng(0)
    if law.needs:
        return schedules()
    tokens = 10 ** rng.uniform(9, 12, rows)
    values: Mapping[str, np.ndarray] = {
        "x": np.geomspace(1e4, 1e11, rows),
        "params": 10 ** rng.uniform(7, 10, rows),
        "tokens": tokens,
        "unique_tokens": tokens / rng.choice([1, 2, 4, 8, 16, 40, 100], rows),
        "flops": 10 ** rng.uniform(17, 23, rows),
        "width": 2.0 ** rng.uniform(8, 12, rows),
        "depth": np.round(2 ** rng.uniform(2, 6, rows)),
        "experts": 2.0 ** rng.integers(0, 10, rows),
        "loss": rng.uniform(1.8, 3.6, rows),
    }
    return {name: values[name] for name in law.columns}


def made_by(law: Law) -> pd.DataFrame:
    """A table without noise."""
    columns = sizes(law)
    seen = law.prepare(columns) if law.prepare else columns
    with jax.enable_x64(True):
        values = np.asarray(law.predict(TRUE[law.name], seen))
    return pd.DataFrame(columns).assign(**{law.target: values})


def test_every_law_is_tested() -> None:
    assert set(TRUE) == set(LAWS)
    for name, law in LAWS.items():
        assert set(TRUE[name]) == set(law.names), name
        assert law.source
        assert law.formula


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.exhaustive if n in SLOWEST else pytest.mark.slow)
        if n in SLOW
        else n
        for n in TRUE
    ],
)
def test_parameters_return(name: str) -> None:
    found = fit(made_by(LAWS[name]), name, Options(x="x", bootstrap=0))
    assert found.status == "interior", found
    for parameter, value in TRUE[name].items():
        assert found.params[parameter] == pytest.approx(value, rel=1e-6), parameter
