"""A study of five widths and three seeds with a known law, recorded as the trainer records it."""

import math
import pathlib
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import pytest

from scaling.config import EvalSetConfig, RunConfig, amounts, choices, contracts, override
from scaling.config.provenance import provenance
from scaling.data.kinds import KINDS
from scaling.objectives import OBJECTIVES
from scaling.records import RunDirectory

EXPONENT, FLOOR, NOISE = 0.25, 0.6, 0.003


def record(
    config: RunConfig, workdir: pathlib.Path, loss: float, **made_by: object
) -> RunDirectory:
    """A run that is done: ten points of a curve, then the final evaluations."""
    params = 12 * config.model.depth * config.model.width**2
    steps, unit = config.train.steps, config.data.unit
    amount = amounts.units(config)
    run = RunDirectory.open(config, workdir)
    size = {
        "params": params + 257 * config.model.width,
        "params_non_embedding": params,
        f"flops_per_{unit}": 6.0 * params,
        f"{unit}s": amount,
        "flops": 6.0 * params * amount,
        f"unique_{unit}s": config.data.unique_units or 26_000_000,
        "split_by": "blocks of about 256 bytes",
    }
    made_by = {"device_kind": "cpu", "device_count": 1} | made_by
    run.start(config, provenance() | made_by, size=size)
    for tenth in range(1, 11):
        step = steps * tenth // 10
        run.append({"step": step, "split": "train", "loss": loss + 3.0 * (1 - tenth / 10)})
    for name in config.evals.sets:
        value = loss + {"val": 0.0, "seen": -0.02, "docs": 0.5}[name]
        line = {"step": steps, "split": name, "loss": value, "loss_se": 0.004}
        text = {"bits_per_byte": value / math.log(2)} if unit == "token" else {}
        run.append(line | text)
    run.write_status("done", step=steps, steps=steps, loss=loss)
    return run


@pytest.fixture(scope="session")
def base() -> RunConfig:
    """A resolved config with a second corpus and the training set among its evaluation sets."""
    docs = EvalSetConfig(part="docs", split="all", corpus="d0c5")
    seen = EvalSetConfig(split="train", corpus="c0ffee")
    return override(
        RunConfig(),
        {
            "data.corpus": "c0ffee",
            "evals.sets.val.corpus": "c0ffee",
            "evals.sets.docs": vars(docs),
            "evals.sets.seen": vars(seen),
            "train.batch_size": 16,
            "data.seq_len": 128,
            "train.steps": 1,
        },
    )


@pytest.fixture(scope="session")
def width_study(
    tmp_path_factory: pytest.TempPathFactory, base: RunConfig
) -> tuple[pathlib.Path, list[RunConfig]]:
    """A workdir with 5 widths x 3 seeds, and their configs."""
    workdir, rng, configs = tmp_path_factory.mktemp("study"), np.random.default_rng(0), []
    for width in (32, 64, 128, 256, 512):
        params = 12 * 4 * width**2 + 257 * width
        for seed in range(3):
            change = {"model.width": width, "seed": seed, "train.steps": max(10, params // 100)}
            config = override(base, change)
            loss = FLOOR + 14 * params**-EXPONENT + rng.normal(0, NOISE)
            record(config, workdir, loss)
            configs.append(config)
    return workdir, configs


@dataclass(frozen=True)
class GrainsConfig:
    """A kind of data that counts grains."""

    kind: Literal["grains"] = "grains"
    source: str = "heap"
    unique_grains: int | None = None
    seed: int | None = None
    corpus: str | None = None

    @property
    def unit(self) -> str:
        return "grain"

    @property
    def units_per_example(self) -> int:
        return 4

    @property
    def unique_units(self) -> int | None:
        return self.unique_grains


@dataclass(frozen=True)
class SurpriseConfig:
    """An objective whose main metric is called surprise."""

    name: Literal["surprise"] = "surprise"


def _unread(*_: object) -> NoReturn:
    raise AssertionError("nothing is trained on grains")


@pytest.fixture(params=[pytest.param("lower", marks=pytest.mark.slow), "higher"])
def grains(request, monkeypatch) -> RunConfig:
    """A run on grains, of which the less, or the more, surprise the better."""
    kind = contracts.Kind(
        config=GrainsConfig,
        fields=frozenset(),
        weights=(),
        facts=_unread,
        examples=_unread,
        resolve=_unread,
        shapes=lambda data: {},
    )
    objective = contracts.Objective(
        config=SurpriseConfig,
        rows="nowhere:rows",
        outputs=frozenset(),
        fields=frozenset(),
        metrics={"loss": contracts.Metric("surprise", "bits/grain", request.param)},
    )
    monkeypatch.setitem(KINDS, "grains", kind)
    monkeypatch.setitem(OBJECTIVES, "surprise", objective)
    config = RunConfig(
        model=choices.new("model", "mlp"), data=GrainsConfig(), objective=SurpriseConfig()
    )
    known = {"data.corpus": "5a4d", "evals.sets.val.corpus": "5a4d", "train.batch_size": 8}
    return override(config, known | {"train.steps": 20})
