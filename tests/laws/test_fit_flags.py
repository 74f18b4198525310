"""Absurd values of every flag of `fit` and `plan`: one line that names the flag, before any fit."""

import json
import math
import os
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scaling.commands.laws import models_of
from scaling.errors import UserError
from scaling.laws import Options
from scaling.laws.extrapolation import holdout
from scaling.laws.fit_command import fit_command
from scaling.laws.options import FitRequest, PlanRequest, hints, read
from scaling.laws.plan_command import plan_command
from tests.laws.conftest import fit_request

NAN, INF = math.nan, math.inf
FIT: dict[str, list[Any]] = {
    "table": ["absent.csv", "."],
    "workdir": [{"table": "", "workdir": "absent"}, {"workdir": "out"}],
    "law": ["chinchila", "", "Power"],
    "decimal": [";", ".,", "comma"],
    "columns": ["loss=#0", "loss=#9", "params", "params=absent", "params=params,params=loss", "a="],
    "derive": ["tokens", "tokens=absent+1", "tokens=sqrt(params, loss)", "tokens=1/'a'"],
    "where": ["loss<0", "loss*2", "loss<4 & params>1", "absent==1", "loss <"],
    "x": ["absent", {"x": "loss", "law": "chinchilla"}],
    "loss": ["absent"],
    "objective": ["hubert", ""],
    "delta": [0.0, -1.0, NAN, INF, {"delta": 0.1, "objective": "squares"}],
    "tilt": [{"tilt": t, "objective": "asymmetric"} for t in (0.0, 1.0, NAN, -INF)]
    + [{"tilt": 0.2}],
    "space": ["lin"],
    "sd": ["absent"],
    "fixed": ["alpha", "alpha=x", "alpha=nan", "alpha=inf", "alpha=-9", "alfa=1", "E=1,E=2",
              "E=1,A=2,alpha=1"],
    "bootstrap": [-1, 1, 9, 10**9],
    "method": ["case", {"method": "profile", "bootstrap": 0}],
    "cluster": ["absent", {"cluster": "kind", "method": "residual"}, "kind"],
    "by": ["absent", {"by": "loss"}],
    "level": [0.0, 1.0, -0.5, 90.0, NAN, INF],
    "seed": [-1, 2**32],
    "holdout_by": ["absent", "kind", "empty"],
    "then": ["accuracyy", "chinchilla", {"then": "accuracy", "bootstrap": 0}],
    "compare": ["kaplann", "power, kaplann"],
    "preregister": ["params=1e9", *({"preregister": p, "out": "new"} for p in
                    ("params", "params=x", "params=-1", "params=nan", "size=1"))],
    "score": ["absent.json", "runs.csv", "."],
    "out": ["runs.csv", "runs.csv/below", "/dev/null/x", "a" * 5000],
}  # fmt: skip
PLAN: dict[str, list[Any]] = {
    "fit": ["absent", "runs.csv", "bare.json", "power.json"],
    "flops": [0.0, -1.0, NAN, INF, {"flops": None}],
    "joules": [0.0, INF, 1e9, {"flops": None, "joules": NAN}],
    "flops_per_joule": [1e9, {"flops": None, "joules": 1e9, "flops_per_joule": 0.0}],
    "inference_units": [-1.0, NAN, INF],
    "unique_units": [0.0, 0.5, -1.0, NAN, 1e9],
    "level": [0.0, 1.0, 90.0, NAN],
    "design": [{"design": True}, {"design": True, "budget": 1e19, "fit": "few.json"}],
    "budget": [1e19, *({"design": True, "budget": b} for b in (0.0, -1.0, NAN, INF, 1.0))],
    "rungs": [0, -1, 10**9],
    "base": ["configs.absent", "/", "not a module", "json", ".", ".."],
    "sizes": ["vocab=0", "vocab=-1", "vocab=1e12", "vocab=2.5", "vocab", "vocab=x"],
    "recipe": ["configs.tiny", "configs.tiny:RECIP", "absent:RECIPE"],
    "out": ["runs.csv", "/dev/null/x"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """runs.csv, and fits of it: fit.json, without resamples, with few, of one column."""
    folder = tmp_path_factory.mktemp("flags")
    params = np.repeat(np.geomspace(1e5, 1e8, 6), 4)
    tokens = params * np.tile([5.0, 10, 20, 80], 6)
    wave = np.exp(0.003 * np.sin(np.arange(24) ** 2))
    pd.DataFrame({
        "params": params, "tokens": tokens, "kind": "a", "empty": None,
        "loss": (1.5 + 40 * params**-0.3 + 90 * tokens**-0.3) * wave,
    }).to_csv(folder / "runs.csv", index=False)  # fmt: skip
    table = {"table": str(folder / "runs.csv")}
    for name, options in {
        "fit": {"bootstrap": 60}, "bare": {"bootstrap": 0}, "few": {"bootstrap": 20},
        "power": {"law": "power_floor", "bootstrap": 20},
    }.items():  # fmt: skip
        fit_command(fit_request(**table, **{"law": "chinchilla"} | options, out=str(folder / name)))
        (folder / name / "fit.json").rename(folder / f"{name}.json")
    return folder


def _cases(flags: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(flag, value if isinstance(value, dict) else {flag: value}, id=f"{flag}-{i}")
        for flag, values in flags.items()
        for i, value in enumerate(values)
    ]


def _fit(typed: dict[str, Any]) -> None:
    fit_command(read(FitRequest, typed))


def _plan(typed: dict[str, Any]) -> None:
    plan_command(read(PlanRequest, typed), models_of)


def _refused(command: Any, flag: str, options: dict[str, Any]) -> str:
    with pytest.raises(UserError) as error:
        command(options)
    message = str(error.value)
    assert f"--{flag}" in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("flag", "options"), _cases(FIT))
def test_fit(
    flag: str, options: dict[str, Any], folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = set(folder.rglob("*"))
    _refused(_fit, flag, {"table": "runs.csv", "bootstrap": 20} | options)
    assert set(folder.rglob("*")) == before


@pytest.mark.parametrize(("flag", "options"), _cases(PLAN))
def test_plan(
    flag: str, options: dict[str, Any], folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    _refused(_plan, flag, {"fit": "fit.json", "flops": 1e18} | options)


def test_every_flag_is_tried() -> None:
    def flags(record: type) -> set[str]:
        return {name for name, kind in hints(record).items() if kind is not bool}

    assert flags(FitRequest) == set(FIT)
    assert flags(PlanRequest) | {"design"} == set(PLAN)


def test_what_is_wrong_is_said_before_jax_is_imported(folder: pathlib.Path) -> None:
    wrong = [
        {flag: value} | ({"table": ""} if flag == "workdir" else {})
        for flag, values in FIT.items() if flag not in ("cluster", "by")
        for value in values if not isinstance(value, dict)
    ]  # fmt: skip
    code = f"""
import math, sys
from scaling.commands.laws import models_of
from scaling.errors import UserError
from scaling.laws.fit_command import fit_command
from scaling.laws.options import FitRequest, read
nan, inf = math.nan, math.inf
for options in {wrong}:
    try:
        fit_command(read(FitRequest, {{"table": "runs.csv"}} | options))
    except UserError:
        continue
    sys.exit(f"not refused: {{options}}")
heavy = {{"jax", "jaxlib", "scipy", "matplotlib", "flax", "orbax"}} & set(sys.modules)
sys.exit(f"imported: {{heavy}}" if heavy else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_tables_of_other_lengths_find_the_programs_of_an_earlier_process(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    table = pd.read_csv(folder / "runs.csv")[["params", "tokens", "loss"]]
    kept = []
    launch = pathlib.Path(__file__).parents[2] / "launch.py"
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    for rows in (24, 17, 63):
        part = pd.concat([table, table * 1.001, table * 1.002]).iloc[:rows]
        part.to_csv(tmp_path / "t.csv", index=False)
        done = subprocess.run(
            [sys.executable, launch, "fit", "--table=t.csv", "--law=chinchilla"], cwd=tmp_path,
            env=env | {"SCALING_DATA_DIR": str(tmp_path / "data")}, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "resamples" in done.stdout
        kept.append({p.name for p in (tmp_path / "data" / "jax_cache").glob("*-cache")})
    assert kept[0]
    assert kept[0] == kept[1] == kept[2]


def test_a_fit_without_resamples_says_what_to_type(folder: pathlib.Path) -> None:
    options = {"fit": str(folder / "bare.json"), "flops": 1e18}
    message = _refused(_plan, "fit", options)
    assert "--bootstrap=0" in message
    assert "`launch.py fit`" in message


def test_a_fit_without_intervals_prints_none(folder: pathlib.Path) -> None:
    text = fit_command(
        fit_request(table=str(folder / "runs.csv"), law="chinchilla", bootstrap=0)
    ).text
    assert "nan" not in text
    assert "[" not in text
    assert "no intervals" in text
    values = json.loads((folder / "bare.json").read_text())
    assert f"  alpha = {values['params']['alpha']:.6g}\n" in text


def test_none_is_a_group_and_no_size(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    table = pd.read_csv(folder / "runs.csv")
    b2 = [0.95, 0.95 + 2**-53, 0.99, None]
    table = pd.concat([table.assign(b2=b, loss=table.loss * (1 + i / 9)) for i, b in enumerate(b2)])
    table.to_json(tmp_path / "runs.jsonl", orient="records", lines=True, double_precision=15)
    lines = [json.dumps(row | {"b2": None if row["b2"] != row["b2"] else row["b2"]})
             for row in table.drop(columns="empty").to_dict("records")]  # fmt: skip
    (tmp_path / "runs.jsonl").write_text("\n".join(lines))
    made = fit_command(
        fit_request(
            table=str(tmp_path / "runs.jsonl"),
            law="chinchilla",
            bootstrap=0,
            by="b2",
            out=str(tmp_path / "out"),
        )
    )
    assert list(made.fits) == ["0.95", "0.9500000000000001", "0.99", "None"]
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(made.folders.values())
    assert len(made.folders) == 4
    floors = [fit.params["E"] for fit in made.fits.values()]
    assert floors == sorted(floors)
    assert floors[1] > floors[0]
    # A run without a size is among the rest, and is said to be.
    sized = table[table.b2.isna() | (table.b2 == 0.99)]
    told = holdout(sized, "chinchilla", Options(x={}, bootstrap=20), by="b2")
    assert len(told.held_out) == 24
    assert told.fit.n == 24
    assert "24 runs whose b2 is None; at 0.99" in told.sentence
    with pytest.raises(UserError, match=r"all 24 runs have the same b2 \(0\.99\)"):
        holdout(table[table.b2 == 0.99], "chinchilla", Options(x={}, bootstrap=20), by="b2")
