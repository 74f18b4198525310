"""Imported models of each family, compiled by the TPU compiler, without a TPU: `make test-tpu`."""

import dataclasses
import json
import math

import models
import pytest

from scaling.check import target
from scaling.check.report import as_dict, check
from scaling.config import override
from scaling.devices import slices
from scaling.exchange import inward
from scaling.families import exchanged
from scaling.studies import study

pytestmark = pytest.mark.tpu
SMALLER = {"t5": {"model.encoder_depth": 1}, "resnet_basic": {"model.stages": "1"}}


@pytest.fixture(scope="module")
def chips():
    """Four of them."""
    patch = pytest.MonkeyPatch()
    for name, value in target._ENVIRONMENT.items():
        patch.setenv(name, value)
    try:
        yield target.of_topology(slices.find("v5e:2x2"), 1)
    finally:
        patch.undo()


@pytest.mark.parametrize("name", ["bert_tokens", "t5", "vit", "resnet_basic"])
def test_an_imported_model_is_compiled_for_tpus(name, chips):
    """Of what its folder says: a config.json, and the names of its tensors."""
    fields = {"model.depth": 1} | SMALLER.get(name, {})
    table, made = models.table(name), override(models.named(name), fields)
    leaves = models.random_leaves(study.resolve_planned(made))
    theirs = exchanged.to_theirs(table, leaves)
    said = json.loads(json.dumps(exchanged.written(table, made.model, models.LENGTH)))
    model, _ = inward.described(said, theirs)
    config = dataclasses.replace(made, model=model, imported="0123456789ab")
    sides = {n: models.RESNET[n] for n in ("height", "image_width")} if "resnet" in name else {}
    rows = {"train.batch_size": 8, "evals.batch_size": 8, "mesh.data": 1, "mesh.fsdp": 4}
    config = override(config, rows | {f"model.{n}": side for n, side in sides.items()})
    report = as_dict(check(study.resolve_planned(config), chips, None))
    assert report["fits"] is True
    assert report["mesh"] == {"fsdp": 4}
    assert report["params"]["total"] == sum(math.prod(x.shape) for x in theirs.values())
    assert {tuple(row["axes"]) for row in report["collectives"]} == {("fsdp",)}
