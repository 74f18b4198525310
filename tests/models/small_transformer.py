"""A small transformer and batches for it, shared by the tests of this folder."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling import families
from scaling.config.contracts import Facts
from scaling.families import transformer
from scaling.families.transformer import TransformerConfig
from scaling.objectives.next_token.cross_entropy import logits

VOCAB = 140
LENGTH = 128  # long enough for attention to work in blocks


def small(**fields: Any) -> TransformerConfig:
    """A resolved config of two blocks of width 16."""
    config = dataclasses.replace(
        TransformerConfig(width=16, depth=2, heads=4, kv_heads=2), **fields
    )
    return transformer.resolve(config, Facts("", 0, 0, {"vocab": VOCAB}))


def batch_of(tokens: jax.Array, segment_ids: jax.Array | None = None) -> dict[str, jax.Array]:
    """A model's batch; positions start again with every segment."""
    segments = jnp.ones_like(tokens) if segment_ids is None else segment_ids
    slots = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    first = jnp.argmax(segments[:, :, None] == segments[:, None, :], axis=2)
    return {"tokens": tokens, "positions": slots - first, "segment_ids": segments}


@functools.cache
def init(config: TransformerConfig, seed: int = 0) -> Any:
    """Parameters without boxes, made once for each config."""
    batch = batch_of(jnp.zeros((1, 8), jnp.int32))
    return nn.unbox(jax.jit(families.build(config).init)(jax.random.key(seed), batch))["params"]


@functools.cache
def logits_of(config: TransformerConfig) -> Callable[[Any, dict[str, jax.Array]], jax.Array]:
    """(params, batch) -> logits, compiled once for each config."""
    model = families.build(config)
    return jax.jit(lambda params, batch: logits(model.apply({"params": params}, batch)))


def tokens_of(seed: int, rows: int = 2, length: int = LENGTH) -> jax.Array:
    """int32 [rows, length]; in a row no token occurs twice."""
    keys = jax.random.split(jax.random.key(seed), rows)
    return jnp.stack([jax.random.permutation(key, VOCAB)[:length] for key in keys])
