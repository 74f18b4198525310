"""Transforms of a model whose rates and scales follow its width: nothing of either is lost."""

import jax
import numpy as np
import pytest
from stepping import begun

from scaling.config import fingerprint
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.train import begins
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.transforms import transform

MUP = {"optim.parametrization": "mup", "optim.base_width": 8}
GROWTH = 2  # of the tiny run's width over that
UNTIED = {"model.tie_embeddings": False}  # an output of its own, which muP multiplies
STORED = {
    "lora": {"transform.rank": 2, "transform.modules": "*"},
    "prune": {},
    "low_rank": {"transform.share": 1.0, "transform.modules": "*"},  # of whole rank: w itself
    "qat": {"transform.bits": 8},
}


def leaves_of(tree):
    return dict(subtree.leaves(jax.device_get(tree)))


def used(config, params):
    return leaves_of(jax.jit(lambda stored: transform.used(config, stored))(params))


@pytest.mark.parametrize("name", ["lora", "prune", "low_rank"])
def test_it_is_drawn_as_without(tiny, name):
    plain = tiny(MUP | UNTIED)
    config = tiny(MUP | UNTIED | {"transform.name": name} | STORED[name])
    assert config.model.width == GROWTH * 8
    expected, found = (used(one, begun(one)[2].params) for one in (plain, config))
    assert found.keys() == expected.keys()
    for path, w in expected.items():
        np.testing.assert_allclose(found[path], w, rtol=1e-4, atol=1e-5, err_msg=path)


@pytest.mark.parametrize("name", list(STORED))
def test_at_the_bases_width_every_multiplier_is_one(tiny, name):
    config = tiny(MUP | {"optim.base_width": 16, "transform.name": name} | STORED[name])
    found = transform.described(config)
    for field in ("init", "forward", "rate", "epsilon"):
        assert not found.varies(field)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon"])
def test_a_factor_that_reads_the_channels_is_slower_and_one_that_reads_the_rank_is_not(
    tiny, optimizer
):
    """By name: the growth of what each reads, and of what sgd's writes; muon's spectral norms are
    of (fan-out / fan-in) over the larger of the two.
    """
    config = tiny(MUP | {"transform.name": "lora"} | STORED["lora"] | {"optim.name": optimizer})
    rates = transform.described(config).values("rate")
    a, b = (next(rates[p] for p in rates if p.endswith(f"query/w_lora_{x}")) for x in "ab")
    r = GROWTH
    expected = {"adamw": (1 / r, 1), "sgd": (1 / r, r), "muon": (1 / r, 1)}[optimizer]
    assert (a, b) == pytest.approx(expected)
    forward = transform.described(config).values("forward")
    assert all(forward[path] == 1 for path in forward if "_lora_" in path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "prune", "low_rank"])
def test_it_begins_with_what_another_run_used(tiny, tmp_path, name):
    """Of the same parametrization, and of none."""
    runs = tmp_path / "runs"
    for fields in (MUP, {}):
        parent = tiny(UNTIED | fields | {"train.steps": 3})
        assert train(parent, tmp_path, quiet=True).status == "done"
        config = tiny(
            UNTIED
            | MUP
            | {"transform.name": name, "begins.run": fingerprint(parent)}
            | STORED[name]
            | ({"transform.sparsity": 0.0} if name == "prune" else {})
        )
        _, plan, state = begun(config)
        begin = begins.begin(state, config, plan, runs)
        theirs = leaves_of(newest(RunDirectory.open(parent, tmp_path)).used)
        for path, w in used(config, begin.params).items():
            np.testing.assert_allclose(w, theirs[path], rtol=1e-4, atol=1e-5, err_msg=path)
