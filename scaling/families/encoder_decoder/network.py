"""The encoder-decoder transformer (Vaswani et al. 2017), with pre-norm blocks.

Takes a resolved config and a batch: source and source_segments int32 [B, S] (1: a token, 0: filled
up), tokens and positions int32 [B, T]; gives the hidden states and the output matrix of the
target's logits. With a cache it goes on, a token at a time, for `translate.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.encoder_decoder import EncoderDecoderConfig
from scaling.families.encoder_decoder.pointer import Pointer
from scaling.models import relative
from scaling.models.dropout import OUTSIDE, Keys, dropped, keys_of
from scaling.models.embedding import lookup
from scaling.models.layers import (
    Array,
    RMSNorm,
    angles_of,
    constrain,
    parameter,
    rope_table,
    truncated_normal,
)
from scaling.models.reading import Table
from scaling.models.reading_blocks import EncoderBlock, ReadingBlock
from scaling.models.stack import layers_of, run_stack

_WRITTEN = OUTSIDE + 1  # site of what the target's tokens are looked up as


class DecoderBlock(ReadingBlock):
    """Attention to what is written so far, reading of the source, and an MLP."""

    turned: bool = False  # queries and keys of the reading too

    def setup(self) -> None:
        """The three branches."""
        self.attention_norm, self.attention = self._norm(), self._reading()
        self.reading_norm, self.reading = self._norm(), self._reading()
        self.mlp_norm, self.mlp = self._norm(), self._mlp()

    def __call__(
        self,
        x_BxTxD: Array,
        memory_BxSxD: Array,
        seen_BxTxS: Array,
        past_BxTxT: Array,
        cos: Array | None,
        sin: Array | None,
        bias_HxTxT: Array | None = None,
        source_cos: Array | None = None,
        source_sin: Array | None = None,
        drops: Keys | None = None,
    ) -> Array:
        """The stream behind the block, of a whole target; `bias`: of the scores of what is
        written; `source_cos`, `source_sin`: of the source's places, where reading has positions.
        """
        table = _table(cos, sin)
        keys = self.attention.keys(self.attention_norm(x_BxTxD), table)
        source = self.read(memory_BxSxD, _table(source_cos, source_sin))
        return self._run(x_BxTxD, keys, past_BxTxT, source, seen_BxTxS, table, bias_HxTxT, drops)

    def read(self, memory_BxSxD: Array, table: Table | None = None) -> Table:
        """Keys and values of the source; keys turned by the positions of `table`."""
        return self.reading.keys(memory_BxSxD, table)

    def write(
        self,
        x_Bx1xD: Array,
        cache: Mapping[str, Any],
        past_Bx1xT: Array,
        seen_Bx1xS: Array,
        table: Table | None,
        at: Array,
        bias_Hx1xT: Array | None = None,
    ) -> tuple[Array, dict[str, Any]]:
        """The stream behind the block at the slot `at`, and the cache with its key and value."""
        put = jax.lax.dynamic_update_slice_in_dim
        new = self.attention.keys(self.attention_norm(x_Bx1xD), table)
        past = tuple(
            put(old, one.astype(old.dtype), at, axis=2)
            for old, one in zip(cache["past"], new, strict=True)
        )
        source = cache["source"]
        x_Bx1xD = self._run(x_Bx1xD, past, past_Bx1xT, source, seen_Bx1xS, table, bias_Hx1xT)
        return x_Bx1xD, {**cache, "past": past}

    def _run(
        self,
        x: Array,
        past: Any,
        past_seen: Array,
        source: Any,
        seen: Array,
        table: Table | None,
        bias: Array | None,
        drops: Keys | None = None,
    ) -> Array:
        h = self.attention_norm(x)
        attended = self.attention(h, past, past_seen, table, bias)
        x = constrain(x + self._dropped(attended, drops, 0))
        read = self.reading(self.reading_norm(x), source, seen, table if self.turned else None)
        x = constrain(x + self._dropped(read, drops, 1))
        return constrain(x + self._dropped(self.mlp(self.mlp_norm(x)), drops, 2))


class Network(nn.Module):
    """Source and target to what the target's logits are made of."""

    config: EncoderDecoderConfig

    @nn.compact
    def __call__(
        self,
        batch: Mapping[str, Array],
        cache: Mapping[str, Any] | None = None,
        slots: int | None = None,
    ) -> dict[str, Any]:
        """
        Args:
          batch: source, source_segments int32 [B, S]; tokens, positions int32 [B, T]. With a cache
            tokens alone, of one place; with slots the source alone.
          cache: of the call before; the batch continues it.
          slots: how many tokens there is to be room for; None: no cache is wanted.

        Returns:
          hidden: behind the final norm, [B, T, D] in the compute dtype; head: output matrix,
          float32 [V, D]; pointed: with a pointer, what is mixed with the logits; cache: with slots,
          before the first token; with a cache, that with one more.
        """
        c = self.config
        init = truncated_normal(1 / math.sqrt(c.width))  # as the transformer's
        shape = resolved(c.vocab), c.width
        table_VxD = parameter(self, "embedding", init, shape, ("vocab", "embed"))
        head_VxD = table_VxD
        if not c.tie_embeddings:
            head_VxD = parameter(self, "head", init, shape, ("vocab", "embed"))
        pointer = self._pointer()
        if cache is None:
            memory_BxSxD = self._read(batch, table_VxD)
            read = {} if pointer is None else self._offered(pointer, memory_BxSxD, batch)
            if slots is not None:
                opened = self._opened(memory_BxSxD, batch["source_segments"] > 0, slots)
                return {"cache": {**opened, **read}}
            places_BxT = batch["positions"]
            x_BxTxD = self._written(batch, table_VxD, memory_BxSxD)
        else:
            places_BxT = jnp.full_like(batch["tokens"], cache["length"])
            x_BxTxD, cache = self._continued(batch["tokens"], table_VxD, cache)
            read = cache
        y_BxTxD = RMSNorm(c.norm_eps, jnp.dtype(c.dtype), name="final_norm")(x_BxTxD)
        if c.scale_head:
            y_BxTxD *= c.width**-0.5
        outputs: dict[str, Any] = {"hidden": constrain(y_BxTxD), "head": head_VxD}
        if pointer is not None:
            table = _table(*_turns(c, places_BxT, _channels(c))) if c.reading_positions else None
            keys_BxSxK, source_BxS, is_source_BxS = read["offered"]
            outputs["pointed"] = pointer(x_BxTxD, keys_BxSxK, source_BxS, is_source_BxS, table)
        return outputs if cache is None else {**outputs, "cache": cache}

    def _offered(
        self, pointer: Pointer, memory_BxSxD: Array, batch: Mapping[str, Array]
    ) -> dict[str, Any]:
        """What a pointer can point to, as a part of the cache: keys, tokens, and where some are."""
        is_source_BxS = batch["source_segments"] > 0
        table = _table(*_source_turns(self.config, is_source_BxS, _channels(self.config)))
        return {"offered": (pointer.keys(memory_BxSxD, table), batch["source"], is_source_BxS)}

    def _read(self, batch: Mapping[str, Array], table_VxD: Array) -> Array:
        """What the encoder makes of the source: [B, S, D]."""
        c, is_source, drops = self.config, batch["source_segments"] > 0, keys_of(batch)
        places = jnp.broadcast_to(jnp.arange(is_source.shape[1])[None], is_source.shape)
        seen = jnp.broadcast_to(is_source[:, None], (*is_source.shape, is_source.shape[1]))
        depth = resolved(c.encoder_depth)
        x_BxSxD = run_stack(
            self,
            "encoder",
            depth,
            EncoderBlock,
            (c, 2 * depth, c.activation, c.scale_scores, c.dropout),
            dropped(_embedded(c, table_VxD, batch["source"], places), drops, c.dropout, OUTSIDE),
            seen,
            *_turns(c, places),
            self._bias("encoder_bias", is_source.shape[1], causal=False),
            scan_layers=c.scan_layers,
            remat=c.remat,
            dropout=drops,
        )
        return RMSNorm(c.norm_eps, jnp.dtype(c.dtype), name="encoder_norm")(x_BxSxD)

    def _written(self, batch: Mapping[str, Array], table_VxD: Array, memory_BxSxD: Array) -> Array:
        """The decoder's stream of a whole target."""
        c, places, drops = self.config, batch["positions"], keys_of(batch)
        is_source = batch["source_segments"] > 0
        seen = jnp.broadcast_to(is_source[:, None], (*places.shape, is_source.shape[1]))
        return run_stack(
            self,
            "decoder",
            c.depth,
            DecoderBlock,
            (c, 3 * c.depth, c.activation, c.scale_scores, c.dropout, c.reading_positions),
            dropped(_embedded(c, table_VxD, batch["tokens"], places), drops, c.dropout, _WRITTEN),
            memory_BxSxD,
            seen,
            places[:, :, None] >= places[:, None, :],
            *_turns(c, places),
            self._bias("decoder_bias", places.shape[1], causal=True),
            *_source_turns(c, is_source),
            scan_layers=c.scan_layers,
            remat=c.remat,
            dropout=drops,
            first=resolved(c.encoder_depth),
        )

    def _pointer(self) -> Pointer | None:
        c = self.config
        fields = (c.width, _channels(c), jnp.dtype(c.dtype), c.norm_eps, c.qk_norm)
        return Pointer(*fields, name="pointer") if c.pointer else None

    def _bias(self, name: str, length: int, causal: bool, at: Array | None = None) -> Array | None:
        """Of the scores of a stack, [H, L, L], or [H, 1, L] of the query at a slot alone; None:
        its positions are others.
        """
        c = self.config
        if c.positions != "relative":
            return None
        init, shape = truncated_normal(1 / math.sqrt(c.width)), (c.buckets, c.heads)
        table_NxH = parameter(self, name, init, shape, ("positions", "heads"))
        return relative.bias(table_NxH, length, c.distance, causal, at)

    def _opened(self, memory_BxSxD: Array, is_source: Array, slots: int) -> dict[str, Any]:
        """A cache with the source read, and room for what is written."""
        c, block = self.config, self._block()
        shape = (len(memory_BxSxD), c.heads, slots, resolved(c.head_dim))
        empty = jnp.zeros(shape, jnp.dtype(c.dtype))
        table = _table(*_source_turns(c, is_source))
        layers = [
            {
                "past": (empty, empty),
                "source": block.apply({"params": params}, memory_BxSxD, table, method="read"),
            }
            for params in layers_of(self.variables["params"]["decoder"])
        ]
        return {"layers": layers, "is_source": is_source, "length": jnp.zeros((), jnp.int32)}

    def _continued(
        self, tokens_Bx1: Array, table_VxD: Array, cache: Mapping[str, Any]
    ) -> tuple[Array, dict[str, Any]]:
        """The decoder's stream of one more token, and the cache with it."""
        c, at, block = self.config, cache["length"], self._block()
        places = jnp.full_like(tokens_Bx1, at)
        x_Bx1xD = _embedded(c, table_VxD, tokens_Bx1, places)
        table = _table(*_turns(c, places))
        slots = cache["layers"][0]["past"][0].shape[2]
        past = jnp.broadcast_to(jnp.arange(slots) <= at, (len(tokens_Bx1), 1, slots))
        bias = self._bias("decoder_bias", slots, causal=True, at=at)
        layers = []
        of_layers = layers_of(self.variables["params"]["decoder"])
        for params, layer in zip(of_layers, cache["layers"], strict=True):
            x_Bx1xD, layer = block.apply(
                {"params": params},
                *(x_Bx1xD, layer, past, cache["is_source"][:, None], table, at, bias),
                method="write",
            )
            layers.append(layer)
        return x_Bx1xD, {**cache, "layers": layers, "length": at + 1}

    def _block(self) -> Any:
        c = self.config
        fields = (c, 3 * c.depth, c.activation, c.scale_scores, 0.0, c.reading_positions)
        return DecoderBlock(*fields, parent=None)


def _embedded(
    config: EncoderDecoderConfig, table_VxD: Array, tokens_BxL: Array, places_BxL: Array
) -> Array:
    """The rows of the tokens; with sinusoidal positions, and these added."""
    with jax.named_scope("embedding"):
        x_BxLxD = lookup(table_VxD, tokens_BxL, jnp.dtype(config.dtype))
        if config.positions == "sinusoidal":
            angles = angles_of(places_BxL, config.width, config.rope_theta)
            waves_BxLxD = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
            # As an embedding starts; in the original that is multiplied by sqrt(width).
            waves_BxLxD /= math.sqrt(config.width)
            x_BxLxD += waves_BxLxD.astype(x_BxLxD.dtype)
    return constrain(x_BxLxD)


def _turns(
    config: EncoderDecoderConfig, places_BxL: Array, channels: int | None = None
) -> tuple[Array | None, Array | None]:
    """What queries and keys of so many channels (None: a head's) turn by; nothing without rotary
    positions.
    """
    if config.positions != "rotary":
        return None, None
    return rope_table(places_BxL, channels or resolved(config.head_dim), config.rope_theta)


def _source_turns(
    config: EncoderDecoderConfig, is_source_BxS: Array, channels: int | None = None
) -> tuple[Array | None, Array | None]:
    """What keys of the source turn by where it is read; nothing unless reading has positions."""
    if not config.reading_positions:
        return None, None
    places_BxS = jnp.arange(is_source_BxS.shape[1])[None]
    return _turns(config, jnp.broadcast_to(places_BxS, is_source_BxS.shape), channels)


def _channels(config: EncoderDecoderConfig) -> int:
    """Of the pointer's one head: as many as all heads of a reading have."""
    return config.heads * resolved(config.head_dim)


def _table(cos: Array | None, sin: Array | None) -> Table | None:
    return None if cos is None or sin is None else (cos, sin)
