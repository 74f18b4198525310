"""What is particular to the feed-forward language model: it knows so many tokens, and no others."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.families import build
from scaling.families.feedforward import FeedforwardConfig, size

CONFIG = FeedforwardConfig(width=8, depth=1, context=3, mlp_width=16, vocab=11)
TOKENS = jax.random.randint(jax.random.key(0), (2, 7), 0, 11)


def parameters(config: FeedforwardConfig):
    params = build(config).init(jax.random.key(1), {"tokens": TOKENS})["params"]
    return jax.tree.map(lambda leaf: leaf.unbox(), params, is_leaf=lambda x: hasattr(x, "unbox"))


PARAMS = parameters(CONFIG)


def hidden(batch: dict) -> jax.Array:
    return build(CONFIG).apply({"params": PARAMS}, batch)["hidden"]


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_token_is_known_to_itself_and_the_two_after_it(place):
    before = hidden({"tokens": TOKENS})
    other = TOKENS.at[:, place].set((TOKENS[:, place] + 1) % 11)
    changed = np.abs(hidden({"tokens": other}) - before).max(axis=(0, 2)) > 1e-6
    assert changed.nonzero()[0].tolist() == [p for p in range(place, place + 3) if p < 7]


def test_a_document_does_not_know_the_one_before():
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2]] * 2)
    both = hidden({"tokens": TOKENS, "segment_ids": segments})
    np.testing.assert_allclose(both[:, 4:], hidden({"tokens": TOKENS[:, 4:]}), atol=1e-6)


def test_the_first_matrix_is_one_product_of_what_stands_side_by_side():
    table, first = PARAMS["embedding"], PARAMS["first"]["w"]
    e = np.asarray(table)[np.asarray(TOKENS[0, 2:5])][::-1] * np.sqrt(8)
    wanted = np.einsum("KE,KED->D", e, np.asarray(first))
    _, kept = build(CONFIG).apply(
        {"params": PARAMS}, {"tokens": TOKENS}, capture_intermediates=True, mutable="intermediates"
    )
    (found,) = kept["intermediates"]["first"]["__call__"]
    np.testing.assert_allclose(found[0, 4], wanted, rtol=1e-5)


def test_its_size_does_not_know_how_long_a_row_is():
    tied, untied = (size(dataclasses.replace(CONFIG, tie_embeddings=t)) for t in (True, False))
    assert tied.params == sum(leaf.size for leaf in jax.tree.leaves(PARAMS))
    assert untied.params - tied.params == 11 * 8
    assert untied.flops_per_unit == tied.flops_per_unit
