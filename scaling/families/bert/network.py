"""The bidirectional encoder of text: tokens to what a head makes of them.

Takes a resolved BertConfig and a batch (tokens, positions, and where there are such segment_ids and
token_types: int32 [B, L]). The blocks are the transformer's own, as an encoder has them
(`scaling/models/blocks.py`): norms stand before the branches, or behind the
sums as in the original.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.bert import BertConfig, encoder, rows, tasks
from scaling.models.blocks import init_blocks, run_blocks
from scaling.models.dropout import OUTSIDE, dropped, keys_of
from scaling.models.embedding import lookup
from scaling.models.layers import (
    ACTIVATIONS,
    NORMS,
    Array,
    Linear,
    Projection,
    constrain,
    parameter,
    rope_table,
    truncated_normal,
)

_TYPES = 2  # texts of a row that are told apart


class Network(nn.Module):
    """Tables, blocks, a norm, one head (Devlin et al. 2019, arXiv 1810.04805, figures 1 and 2)."""

    config: BertConfig

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: tokens (`vocab`: what masks a token), positions; segment_ids, of the text that a
            token is of, in which it sees all others (left out: a row is one; 0: filled up);
            token_types, 0 or 1 (left out: 0); places int32 [B, M], which of the tokens are to be
            predicted (left out: all).

        Returns:
          By the head: masked, [B, M, D] in the compute dtype, with table, float32 [V + 1, D], which
          make the logits of tokens (both have a channel more where these have biases, 1 of
          masked), and of two passages follows, float32 [B, 2]; out, float32
          [B, C], with features, what the last matrix reads, float32 [B, D]; tags, float32
          [B, L, C]; or spans, float32 [B, L, 2], of the first and of the last token of an answer.
          Of several heads all of theirs, and with `uncertainty` log_variances, float32 [T].
        """
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        blocks, init = encoder(c), truncated_normal(1 / math.sqrt(self.config.width))
        symbols = rows(c)
        table_VxD = parameter(self, "embedding", init, (symbols, c.width), ("vocab", "embed"))
        types_2xD = parameter(self, "types", init, (_TYPES, c.width), ("positions", "embed"))
        with jax.named_scope("embedding"):
            x_BxLxD = lookup(table_VxD, batch["tokens"], dtype)
            second_BxL = batch.get("token_types", jnp.zeros_like(batch["tokens"])) == 1
            own_D, other_D = (types_2xD[i].astype(dtype)[None, None] for i in range(_TYPES))
            x_BxLxD += jnp.where(second_BxL[..., None], other_D, own_D)
            if c.positions == "learned":
                shape, axes = (resolved(c.places), c.width), ("positions", "embed")
                places_PxD = parameter(self, "positions", init, shape, axes)
                x_BxLxD += lookup(places_PxD, batch["positions"], dtype)
            if c.norms == "behind":
                x_BxLxD = NORMS[blocks.norm](c.norm_eps, dtype, name="embedding_norm")(x_BxLxD)
            x_BxLxD = dropped(constrain(x_BxLxD), keys_of(batch), c.dropout, OUTSIDE)
        context: dict[str, Any] = {
            "segment_ids": batch.get("segment_ids"),
            "dropout": keys_of(batch),
        }
        if c.positions == "rotary":
            channels = resolved(c.head_dim)
            context["rope"] = rope_table(batch["positions"], channels, c.rope_theta)
        if self.is_initializing():
            x_BxLxD, _ = init_blocks(blocks)(x_BxLxD, context, None)
        else:
            stacked = self.variables["params"]["blocks"]
            x_BxLxD, _, _ = run_blocks(blocks, stacked, x_BxLxD, context, None)
        with jax.named_scope("head"):
            of_tokens = c.head in ("tokens", "passages")
            if c.norms == "before":
                norm = NORMS[blocks.norm](
                    c.norm_eps, dtype if of_tokens else "float32", name="final_norm"
                )
                x_BxLxD = norm(x_BxLxD)
            if of_tokens:
                told = self._masked(x_BxLxD, batch, table_VxD)
                if c.head == "tokens":
                    return told
                return told | {"follows": self._label(x_BxLxD, batch, _TYPES)["out"]}
            if c.head == "classes":
                return self._label(x_BxLxD, batch, resolved(c.classes))
            if c.head != "several":
                outputs = 2 if c.head == "spans" else resolved(c.classes)
                return {c.head: self._of_each(x_BxLxD, outputs)}
            found = dict[str, Any]()
            if c.uncertainty:
                found["log_variances"] = parameter(
                    self, "log_variances", nn.initializers.zeros, (tasks(c),), ("outputs",)
                )
            for name in (c.heads_of or "").split(","):
                if name == "tokens":
                    found |= self._masked(x_BxLxD.astype(dtype), batch, table_VxD)
                elif name == "classes":
                    found |= self._label(x_BxLxD, batch, resolved(c.classes), "label_head")
                else:
                    outputs = 2 if name == "spans" else resolved(c.tags)
                    found[name] = self._of_each(x_BxLxD, outputs, f"{name}_head")
            return found

    def _of_each(self, x_BxLxD: Array, outputs: int, name: str = "head") -> Array:
        """float32 [B, L, O]."""
        fields = ((self.config.width, outputs), ("embed", "outputs"), "float32")
        head: Array = Projection("BLD,DO->BLO", *fields, bias=True, name=name)(x_BxLxD)
        return head

    def _masked(
        self, x_BxLxD: Array, batch: Mapping[str, Array], table_VxD: Array
    ) -> dict[str, Array]:
        """What the table's rows are multiplied with: a layer more than the blocks (section A.2);
        and the table.
        """
        c = self.config
        if "places" in batch:
            x_BxLxD = jnp.take_along_axis(x_BxLxD, batch["places"][..., None], axis=1)
        fields = ((c.width, c.width), ("embed", "mlp"), c.dtype)
        transform = Projection("BLD,DE->BLE", *fields, bias=True, name="transform")
        norm = NORMS["layer"](c.norm_eps, c.dtype, name="transform_norm")
        masked_BxLxD = constrain(norm(ACTIVATIONS[c.activation](transform(x_BxLxD))))
        if c.token_bias:
            zeros, rows = nn.initializers.zeros, table_VxD.shape[:1]
            bias_V = parameter(self, "token_bias", zeros, rows, ("vocab",))
            table_VxD = jnp.concatenate([table_VxD, bias_V[:, None]], axis=1)
            masked_BxLxD = jnp.pad(masked_BxLxD, ((0, 0), (0, 0), (0, 1)), constant_values=1)
        return {"masked": masked_BxLxD, "table": table_VxD}

    def _label(
        self, x_BxLxD: Array, batch: Mapping[str, Array], classes: int, name: str = "head"
    ) -> dict[str, Array]:
        c, x_BxLxD = self.config, x_BxLxD.astype(jnp.float32)
        if c.pool == "class":
            x_BxD = x_BxLxD[:, 0]
        else:
            of_BxL = batch.get("segment_ids", jnp.ones_like(batch["tokens"])) > 0
            of_BxLx1 = of_BxL[..., None].astype(jnp.float32)
            x_BxD = (x_BxLxD * of_BxLx1).sum(axis=1) / of_BxLx1.sum(axis=1)
        pooler = Linear(c.width, ("embed", "mlp"), "float32", name="pooler")
        features_BxD = nn.tanh(pooler(x_BxD))
        head = Linear(classes, ("embed", "outputs"), "float32", name=name)
        return {"out": head(features_BxD), "features": features_BxD}
