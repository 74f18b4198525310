"""The two commands on files: what they write reads back, what is wrong is named."""

import json
import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws import Fit
from scaling.laws.fit_command import fit_command
from scaling.laws.plan_command import plan_command
from scaling.records import find_runs
from tests.laws.conftest import PUBLISHED, fit_request, plan_request

CHINCHILLA = {
    "table": str(PUBLISHED / "chinchilla_epoch.csv"),
    "law": "chinchilla",
    "columns": "params=Model Size,flops=Training FLOP,loss=loss",
    "derive": "tokens=flops/(6*params)",
    "where": "loss<3.44",
}


def test_fit_then_plan(tmp_path: pathlib.Path) -> None:
    made = fit_command(fit_request(**CHINCHILLA, bootstrap=60, out=str(tmp_path)))
    values = json.loads((tmp_path / "fit.json").read_text())
    for key in (
        "law", "params", "intervals", "level", "method", "objective", "n", "dropped", "status",
        "flags",
    ):  # fmt: skip
        assert key in values
    assert values["n"] + values["dropped"] == 245
    assert all(len(pair) == 2 for pair in values["intervals"].values())
    assert values["conventions"]["tokens"] == "flops/(6*params)"
    assert any("left out" in flag for flag in values["flags"])
    assert Fit.from_json((tmp_path / "fit.json").read_text()) == made.fits[""]
    planned = plan_command(
        plan_request(
            fit=str(tmp_path),
            flops=1e21,
            inference_units=1e11,
            design=True,
            budget=1e22,
            out=str(tmp_path / "plan"),
        )
    )
    assert {p.name for p in planned.files} == {"plan.json", "ladder.py", "design.csv"}
    assert "90% interval" in planned.text
    assert "FLOPs = 6 x params x tokens" in planned.text.splitlines()[0]
    assert f"sweep --experiment={tmp_path}/plan/ladder.py --dry_run" in planned.text
    assert "learning rate 0.003 (optim.peak_lr), 16 rows of 256 tokens a step" in planned.text
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert plan["convention"] == "FLOPs = 6 x params x tokens"
    assert plan["params"]["low"] < plan["params"]["value"] < plan["params"]["high"]


@pytest.mark.slow
@pytest.mark.parametrize("base", ["configs.lm", "configs.tiny"])
def test_the_planned_ladder_trains(base: str, tmp_path: pathlib.Path) -> None:
    """From a fit to a plan of a few steps to a trained run, as at the command line."""
    fit_command(fit_request(**CHINCHILLA, bootstrap=40, out=str(tmp_path)))
    for command in (
        ["plan", f"--fit={tmp_path}", "--flops=1e8", "--rungs=2", f"--base={base}",
         f"--out={tmp_path}"],
        ["train", f"--config={tmp_path}/ladder.py:1", f"--workdir={tmp_path}",
         "--config.data.seq_len=32", "--config.train.batch_size=8", "--config.evals.batches=1"],
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "launch.py", *command],
            cwd=pathlib.Path(__file__).parents[2], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    (run,) = find_runs(tmp_path)
    rung = runpy.run_path(str(tmp_path / "ladder.py"))["RUNGS"][1]
    assert run.status()["state"] == "done"
    assert run.config().model.width == rung["model.width"]
    # Whole steps of 8 x 32 tokens.
    assert run.status()["step"] == pytest.approx(rung["train.tokens"] / 256, abs=1)


def test_one_fit_for_each_value(tmp_path: pathlib.Path) -> None:
    made = fit_command(
        fit_request(
            table=str(PUBLISHED / "gemstones_hot.jsonl"),
            law="power_floor",
            x="tokens",
            columns="loss=final_loss",
            by="width",
            where="width < 600",
            bootstrap=0,
            out=str(tmp_path),
        )
    )
    assert set(made.fits) == {p.name for p in tmp_path.iterdir()}
    assert len(made.fits) >= 2


def test_a_group_that_cannot_be_fitted_is_told_and_the_others_go_on(tmp_path: pathlib.Path) -> None:
    params = np.geomspace(1e5, 1e8, 6)
    whole = pd.DataFrame({"params": params, "loss": 1.5 + 40 * params**-0.3, "moe": "on"})
    table = pd.concat([whole, whole.assign(moe=None), whole.iloc[:2].assign(moe="half")])
    table.to_csv(tmp_path / "runs.csv", index=False)
    options = {"table": str(tmp_path / "runs.csv"), "by": "moe", "bootstrap": 0}
    made = fit_command(fit_request(**options))
    assert list(made.fits) == ["on", "None"]
    assert "moe = half\nnot fitted: power_floor has 3 free parameters" in made.text
    assert fit_command(fit_request(**options, where="moe == None")).fits.keys() == {"None"}
    with pytest.raises(UserError, match="--by: no group can be fitted; moe = half: "):
        fit_command(fit_request(**options, where="moe == 'half'"))


def test_runs_that_are_no_repeats_are_told(tmp_path: pathlib.Path) -> None:
    table = pd.DataFrame({
        "name": [str(i) for i in range(24)], "params": np.repeat(np.geomspace(1e5, 1e8, 6), 4),
        "seed": np.arange(24) % 2, "optim.peak_lr": np.tile([1e-3, 1e-3, 3e-3, 3e-3], 6),
        # These differ between sizes only, or say nothing of what is computed.
        "optim.weight_decay": np.repeat(np.linspace(0.1, 0.6, 6), 4),
        "model.width": np.arange(24), "train.microbatches": np.arange(24) % 2 + 1,
        "branched_from": np.where(np.arange(24) % 4 == 1, np.arange(24) - 1, np.nan),
    })  # fmt: skip
    table["branched_from"] = table["branched_from"].map("{:.0f}".format, na_action="ignore")
    table["loss"] = 1.5 + 40 * table.params**-0.3 + 0.01 * np.sin(table.index)
    table.to_csv(tmp_path / "runs.csv", index=False)
    options = {"table": str(tmp_path / "runs.csv"), "bootstrap": 20}

    def told(**more: str) -> list[str]:
        return [
            line
            for line in fit_command(fit_request(**options, **more)).text.splitlines()
            if "--" in line
        ]

    lr, trunks = told()
    assert "rows of equal params differ in optim.peak_lr and are" in lr
    assert "--by=optim.peak_lr" in lr
    assert "6 rows branched off a trunk" in trunks
    assert not told(where="optim.peak_lr < 2e-3", cluster="branched_from")
    assert not told(by="optim.peak_lr", cluster="branched_from")


def test_preregister_and_score(tmp_path: pathlib.Path) -> None:
    fit_command(
        fit_request(
            **CHINCHILLA,
            bootstrap=60,
            preregister="params=1.618e10,tokens=5.18e10",
            out=str(tmp_path),
        )
    )
    assert (tmp_path / "prediction.json").is_file()
    options = {k: v for k, v in CHINCHILLA.items() if k not in ("law", "where")}
    with pytest.raises(UserError, match="no finished run"):
        fit_command(
            fit_request(**options, where="params < 1e9", score=str(tmp_path / "prediction.json"))
        )


def test_what_is_wrong_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="exactly one of --table"):
        fit_command(fit_request())
    with pytest.raises(UserError, match="no law kaplann"):
        fit_command(fit_request(**CHINCHILLA, compare="kaplan,kaplann"))
    with pytest.raises(UserError, match="no such table"):
        fit_command(fit_request(table=str(tmp_path / "none.csv")))
    with pytest.raises(UserError, match=r"launch\.py report"):
        fit_command(fit_request(workdir=str(tmp_path)))
    with pytest.raises(UserError, match="no such fit"):
        plan_command(plan_request(fit=str(tmp_path), flops=1e21))
    (tmp_path / "fit.json").write_text("{}")
    with pytest.raises(UserError, match=r"no fit\.json"):
        plan_command(plan_request(fit=str(tmp_path), flops=1e21))
    with pytest.raises(UserError, match="level"):
        fit_command(fit_request(**CHINCHILLA, level=1.5))
