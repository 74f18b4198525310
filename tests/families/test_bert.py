"""The bidirectional encoder: who sees whom, what its heads read, and its published size."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import choices
from scaling.config.contracts import Facts
from scaling.errors import ConfigError
from scaling.families.bert import FAMILY, BertConfig, size
from scaling.families.bert.network import Network

VOCAB, CLASSES = 7, 3
SMALL = BertConfig(width=8, depth=1, heads=2, pool="mean")
CLOSE = {"rtol": 1e-5, "atol": 1e-5}  # the same sums in another order
HEADS = {
    "tokens": "masked",
    "passages": "follows",
    "classes": "out",
    "tags": "tags",
    "spans": "spans",
}
LEARNED = {"positions": "learned", "places": 8}


def config(head: str = "tokens", **fields: Any) -> BertConfig:
    sizes = {"vocab": VOCAB} | ({} if head == "tokens" else {head: CLASSES})
    return FAMILY.resolve(dataclasses.replace(SMALL, **fields), Facts("", 1, 1, sizes))


@functools.cache
def batch() -> dict[str, jax.Array]:
    """Two rows: one text of six tokens; and one of four, filled up."""
    tokens = np.random.default_rng(0).integers(0, VOCAB, (2, 6))
    segments = np.ones((2, 6), np.int32)
    segments[1, 4:] = 0
    arrays = {"tokens": tokens, "segment_ids": segments, "positions": np.tile(np.arange(6), (2, 1))}
    return {name: jnp.asarray(x, jnp.int32) for name, x in arrays.items()}


@functools.cache
def params_of(config: BertConfig) -> Any:
    """Moved by noise, so that what starts alike differs."""
    params = nn.unbox(jax.jit(Network(config).init)(jax.random.key(0), batch())["params"])
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape).astype(p.dtype), params)


@functools.cache
def apply_of(config: BertConfig) -> Any:
    params = {"params": params_of(config)}
    return jax.jit(lambda batch: Network(config).apply(params, batch))


@pytest.mark.parametrize(("head", "fields"), [*((head, {}) for head in HEADS), ("tokens", LEARNED)])
def test_what_fills_up_a_row_changes_nothing(head, fields):
    model = apply_of(config(head, **fields))
    whole = model(batch())[HEADS[head]]
    short = model({name: x[1:, :4] for name, x in batch().items()})[HEADS[head]]
    ours = whole[1] if head in ("classes", "passages") else whole[1, :4]
    np.testing.assert_allclose(ours, short[0], **CLOSE)


def test_every_place_sees_every_place_of_its_text():
    one, table = config("tags"), params_of(config("tags"))["embedding"]
    row = jnp.arange(6)[None] % VOCAB
    segments = jnp.array([[1, 1, 1, 2, 2, 0]])
    given = {"tokens": row, "segment_ids": segments, "positions": jnp.arange(6)[None]}
    rest = {name: tree for name, tree in params_of(one).items() if name != "embedding"}

    def first_tag_L(table: Any) -> Any:
        out = Network(one).apply({"params": rest | {"embedding": table}}, given)["tags"]
        return out[0, :, 0]

    influence = np.abs(jax.jit(jax.jacrev(first_tag_L))(table))[:, :6].sum(axis=2)
    same = np.asarray(segments[0][:, None] == segments[0][None])
    np.testing.assert_array_equal(influence > 0, same)


def test_positions_types_and_places_are_read():
    for fields in ({}, LEARNED):
        model = apply_of(config("tokens", **fields))
        plain = model(batch())["masked"]
        moved = model(batch() | {"positions": batch()["positions"][:, ::-1]})["masked"]
        second = model(batch() | {"token_types": jnp.ones_like(batch()["tokens"])})["masked"]
        assert not np.allclose(moved, plain, **CLOSE)
        assert not np.allclose(second, plain, **CLOSE)
        places = jnp.array([[5, 0], [2, 2]])
        chosen = model(batch() | {"places": places})["masked"]
        np.testing.assert_allclose(chosen[0], plain[0, places[0]], **CLOSE)
        np.testing.assert_allclose(chosen[1], plain[1, places[1]], **CLOSE)


def test_the_label_is_read_from_the_first_token_or_the_mean():
    params = params_of(config("classes"))
    identity = {"w": jnp.eye(8)[:, :CLASSES], "bias": jnp.zeros(CLASSES)}

    @functools.partial(jax.jit, static_argnums=0)
    def apply(one, params):
        return Network(one).apply({"params": params}, batch())

    stream = apply(config("tags"), params | {"head": identity})["tags"][1]
    pooler = {"matrix": {"w": jnp.eye(8)}, "bias": jnp.zeros(8)}
    for pool, row in (("class", stream[0]), ("mean", stream[:4].mean(axis=0))):
        found = apply(config("classes", pool=pool), params | {"pooler": pooler})["features"]
        np.testing.assert_allclose(found[1, :CLASSES], np.tanh(row), **CLOSE)


def test_the_published_size():
    """BERT-base has 109,482,240 parameters with its pooler (Devlin et al. 2019 say 110M; counted
    from its tables and matrices: 30,522 tokens, 512 positions, 2 types, 12 blocks of 768).
    """
    given = {"width": 768, "depth": 12, "heads": 12, "positions": "learned", "places": 512}
    one = BertConfig(**given, vocab=30_521)
    facts = Facts("", 1, 1, {"vocab": 30_521, "classes": 2})
    data = dataclasses.replace(choices.new("data", "labelled"), seq_len=512, classes=2)
    found = size(FAMILY.resolve(one, facts), data)
    assert found.params - (768 * 2 + 2) == 109_482_240


def test_bad_configs_are_named():
    with pytest.raises(ConfigError, match=r"model\.places"):
        config(positions="learned")
    with pytest.raises(ConfigError, match="must be even"):
        config(head_dim=3)
    with pytest.raises(ConfigError, match=r"model\.classes"):
        FAMILY.resolve(dataclasses.replace(SMALL, head="tags"), Facts("", 1, 1, {"vocab": VOCAB}))
