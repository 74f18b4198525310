"""Scores, ranks and losses of triples, reckoned one entity after the other."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.families.distmult import DistMultConfig
from scaling.families.distmult.network import DistMult
from scaling.families.transe import TransEConfig
from scaling.families.transe.network import TransE
from scaling.objectives import draws
from scaling.objectives.link_prediction import LinkPredictionConfig
from scaling.objectives.link_prediction.rows import rows
from scaling.objectives.objective import Sum

ENTITIES, RELATIONS, WIDTH, ROWS = 11, 3, 5, 6


@pytest.fixture
def batch() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    ends = {name: rng.integers(0, ENTITIES, ROWS).astype(np.int32) for name in ("head", "tail")}
    true = {}
    for name, end in (("true_heads", "head"), ("true_tails", "tail")):
        true[name] = (rng.random((ROWS, ENTITIES)) < 0.2).astype(np.int8)
        true[name][np.arange(ROWS), ends[end]] = 1
    relation = rng.integers(0, RELATIONS, ROWS).astype(np.int32)
    return {**ends, **true, "relation": relation, "weight": np.ones(ROWS, np.float32)}


def tables() -> dict[str, Any]:
    rng = np.random.default_rng(1)
    shapes = {"entities": (ENTITIES, WIDTH), "relations": (RELATIONS, WIDTH)}
    return {name: jnp.asarray(rng.normal(size=s), jnp.float32) for name, s in shapes.items()}


def by_definition(family: str, head: int, relation: int, tail: int) -> float:
    e, r = (np.asarray(tables()[name], np.float64) for name in ("entities", "relations"))
    if family == "distmult":
        return float((e[head] * r[relation] * e[tail]).sum())
    e = e / np.linalg.norm(e, axis=1, keepdims=True)
    return float(-np.linalg.norm(e[head] + r[relation] - e[tail]) / 0.1)


@pytest.mark.parametrize("family", ["transe", "distmult"])
def test_scores_are_the_papers(family, batch):
    sizes = {"width": WIDTH, "entities": ENTITIES, "relations": RELATIONS}
    model = (
        TransE(TransEConfig(**sizes)) if family == "transe" else DistMult(DistMultConfig(**sizes))
    )
    found = jax.device_get(jax.jit(model.apply)({"params": tables()}, batch))
    for row in range(ROWS):
        head, relation, tail = (int(batch[n][row]) for n in ("head", "relation", "tail"))
        for other in range(ENTITIES):
            as_tail = by_definition(family, head, relation, other)
            as_head = by_definition(family, other, relation, tail)
            assert found["tail_scores"][row, other] == pytest.approx(as_tail, rel=1e-4, abs=1e-5)
            assert found["head_scores"][row, other] == pytest.approx(as_head, rel=1e-4, abs=1e-5)


def scores() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    names = ("tail_scores", "head_scores")
    # Of few values, so that some are equal.
    return {n: rng.integers(0, 6, (ROWS, ENTITIES)).astype(np.float32) for n in names}


def test_ranks_leave_out_what_is_true_too(batch):
    loss = rows(LinkPredictionConfig())
    assert loss.rows_of is not None
    found, given = jax.device_get(jax.jit(loss.rows_of)(scores(), batch)), scores()
    reciprocal, hits, nats = [], [], []
    for row in range(ROWS):
        for end in ("tail", "head"):
            values, right = given[f"{end}_scores"][row], int(batch[end][row])
            others = [
                values[e]
                for e in range(ENTITIES)
                if e != right and not batch[f"true_{end}s"][row, e]
            ]
            rank = 1 + sum(1.0 * (v > values[right]) + 0.5 * (v == values[right]) for v in others)
            reciprocal.append(1 / rank)
            hits.append(rank <= 3)
            nats.append(np.log(np.exp(values).sum()) - values[right])
    for name, values in (("reciprocal_rank", reciprocal), ("hits_3", hits)):
        total, count = np.asarray(found.sums[name], np.float64).sum(axis=0)
        assert count == 2 * ROWS
        assert total / count == pytest.approx(np.mean(values), rel=1e-5)
    whole = found.sums["loss"]
    assert isinstance(whole, Sum)
    assert float(whole.total.sum() / whole.count.sum()) == pytest.approx(np.mean(nats), rel=1e-5)


@pytest.mark.slow
def test_margins_are_those_to_drawn_entities(batch):
    loss = rows(LinkPredictionConfig(loss="margin", negatives=400, margin=2.5))
    assert loss.rows_by is not None
    keys = draws.keys(jax.random.key(0), batch)

    @jax.jit
    def of(given, batch, keys):
        return loss.rows_by(lambda fields: given, batch, keys, {}).minimised

    found = of(scores(), batch, keys)
    given, expected = scores(), []
    for row in range(ROWS):
        of_ends = []
        for end in ("tail", "head"):
            values, right = given[f"{end}_scores"][row], int(batch[end][row])
            behind = np.maximum(2.5 - values[right] + np.delete(values, right), 0)
            of_ends.append(behind.sum() / ENTITIES)
        expected.append(np.mean(of_ends))
    # Means over 400 draws of numbers up to 7.5: an error of 0.1 or so.
    np.testing.assert_allclose(found, expected, atol=0.4)
    one = {name: x[:1] for name, x in batch.items()}
    alone = of({name: x[:1] for name, x in scores().items()}, one, keys[:1])
    np.testing.assert_allclose(alone, np.asarray(found)[:1], rtol=1e-6)
