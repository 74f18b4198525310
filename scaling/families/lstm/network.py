"""The LSTM language model: tokens to what next-token logits are made of.

Takes a resolved LSTMConfig and a batch of tokens; gives the hidden states and the output matrix, as
the transformer does. A document never sees the one before.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.families.lstm import LSTMConfig
from scaling.models.dropout import OUTSIDE, dropped, keys_of
from scaling.models.embedding import lookup
from scaling.models.layers import Array, RMSNorm, parameter, truncated_normal
from scaling.models.recurrence import ResidualLSTM, State
from scaling.models.stack import layers_of, run_stack


class Network(nn.Module):
    """Layers of long short-term memory between an embedding and a head."""

    config: LSTMConfig

    @nn.compact
    def __call__(
        self, batch: Mapping[str, Array], cache: list[State] | None = None
    ) -> dict[str, Any]:
        """
        Args:
          batch: tokens and segment_ids (document number in the row; left out: a row is one
            document), each int32 [B, L].
          cache: the state of each layer; the batch, one document a row, continues it.

        Returns:
          hidden: behind the final norm, [B, L, D] in the compute dtype; head: output matrix,
          float32 [V, D]; cache: the states behind the batch, if some were given.
        """
        c, shape = self.config, (resolved(self.config.vocab), self.config.width)
        # As the transformer's: the tied head starts with logits of about 1.
        init = truncated_normal(1 / math.sqrt(c.width))
        table_VxD = parameter(self, "embedding", init, shape, ("vocab", "embed"))
        tokens_LxB = batch["tokens"].swapaxes(0, 1)  # time first: what the loop takes lies together
        with jax.named_scope("embedding"):
            x_LxBxD = lookup(table_VxD, tokens_LxB, jnp.dtype(c.dtype))
            x_LxBxD = dropped(x_LxBxD, keys_of(batch), c.dropout, OUTSIDE, rows=1)
        x_LxBxD = nn.with_logical_constraint(x_LxBxD, (None, "batch", "act_embed"))
        keep_LxB = jnp.ones_like(tokens_LxB, bool)
        if "segment_ids" in batch:
            segments_LxB = batch["segment_ids"].swapaxes(0, 1)
            keep_LxB = keep_LxB.at[1:].set(segments_LxB[1:] == segments_LxB[:-1])
        if cache is not None:
            block: Any = ResidualLSTM(c, parent=None)
            behind: list[State] = []
            for params, state in zip(
                layers_of(self.variables["params"]["layers"]), cache, strict=True
            ):
                x_LxBxD, state = block.apply({"params": params}, x_LxBxD, keep_LxB, None, state)
                behind.append(state)
            cache = behind
        else:
            x_LxBxD = run_stack(
                self,
                "layers",
                c.depth,
                ResidualLSTM,
                (c,),
                x_LxBxD,
                keep_LxB,
                scan_layers=c.scan_layers,
                remat=c.remat,
                dropout=keys_of(batch),
            )
        x_LxBxD = RMSNorm(c.norm_eps, c.dtype, name="final_norm")(x_LxBxD)
        hidden_BxLxD = nn.with_logical_constraint(
            x_LxBxD.swapaxes(0, 1), ("batch", "seq", "act_embed")
        )
        head_VxD = table_VxD
        if not c.tie_embeddings:
            head_VxD = parameter(self, "head", init, shape, ("vocab", "embed"))
        outputs: dict[str, Any] = {"hidden": hidden_BxLxD, "head": head_VxD}
        return outputs if cache is None else outputs | {"cache": cache}
