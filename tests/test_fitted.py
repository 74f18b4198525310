"""Ladders that take their learning rates and batches from files of fits."""

import json

import pandas as pd
import pytest

from scaling.config import RunConfig
from scaling.costs import sizes
from scaling.errors import UserError
from scaling.studies import fitted, ladder, study

RECIPE = ladder.Recipe(model={"head_dim": 16}, aspect=float("inf"), units_per_param=20.0)


def fit_file(folder, law="best_lr", formula="k params^a tokens^b", loss="lr", **params):
    given = {"k": 2.0, "a": -0.5, "b": 0.25} | params
    text = json.dumps({"law": law, "formula": formula, "params": given, "loss": loss})
    path = folder / law / "fit.json"
    path.parent.mkdir()
    path.write_text(text)
    return path


@pytest.fixture
def base(text_files) -> RunConfig:
    config = study.load_config("configs/tiny.py")
    return fitted.override(config, {"data.source": f"text:{text_files}/*.txt"})


def test_a_ladder_takes_its_values_from_the_files(tmp_path, base):
    """Each rung has the law's rate at its own parameters and units, and the nearest power of two
    of rows; all else is as it was.
    """
    lr = fit_file(tmp_path)
    batch = fit_file(tmp_path, "best_batch", "k tokens^b", "batch", k=1.5, b=0.5)
    rungs = [RECIPE.rung(width, base) for width in (16, 32, 64)]
    for before, after in zip(
        rungs, fitted.fitted(rungs, base, lr=lr, batch=batch.parent), strict=True
    ):
        config = study.resolve(fitted.override(base, before))
        params, tokens = sizes.size(config).params, config.train.steps * 32 * 128
        assert after["optim.peak_lr"] == pytest.approx(2 * params**-0.5 * tokens**0.25, rel=1e-9)
        rows = 1.5 * tokens**0.5 / 128
        assert after["train.batch_size"] in (1, 2, 4, 8, 16, 32)
        assert 2**-0.5 <= after["train.batch_size"] / rows <= 2**0.5
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {"optim.peak_lr", "train.batch_size"}
    assert fitted.fitted(rungs, base) == rungs


@pytest.mark.slow
def test_what_fit_writes_is_read(tmp_path):
    """The file of a real fit, of rates that follow a law."""
    from scaling.laws import fit

    rows = [
        {"params": n, "tokens": d, "lr": 3.0 * n**-0.6 * d**0.2}
        for n in (1e4, 4e4, 2e5)
        for d in (1e6, 8e6)
    ]
    path = tmp_path / "fit.json"
    path.write_text(fit(pd.DataFrame(rows), "best_lr").to_json())
    at = {"params": 1e6, "tokens": 1e8, "flops": 0.0}
    assert fitted.read(path, "lr").at(at) == pytest.approx(3.0 * 1e6**-0.6 * 1e8**0.2, rel=1e-4)


BAD = {
    "no such fit": None,
    "is no fit.json": "{}",
    "holds power_floor": json.dumps(
        {"law": "power_floor", "formula": "E + A / x^alpha", "loss": "loss", "params": {"E": 1}}
    ),
    "give a fit of best_lr": json.dumps(
        {"law": "best_batch", "formula": "k tokens^b", "loss": "batch", "params": {"k": 1, "b": 1}}
    ),
}


@pytest.mark.parametrize("words", BAD)
def test_what_is_no_law_of_rates_is_named(words, tmp_path):
    path = tmp_path / "fit.json"
    if BAD[words] is not None:
        path.write_text(BAD[words])
    with pytest.raises(UserError, match=words):
        fitted.read(path, "lr")


def test_a_batch_and_a_length_in_steps_are_refused(tmp_path, base):
    batch = fit_file(tmp_path, "best_batch", "k tokens^b", "batch")
    steps = {"train.steps": 10, "train.tokens_per_param": None}
    with pytest.raises(UserError, match=r"train\.steps=10"):
        fitted.fitted([steps], base, batch=batch)
