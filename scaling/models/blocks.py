"""The transformer's block, and how a stack of them is run: scanned, unrolled or as a pipeline.

The parameters of all blocks lie stacked on a leading axis, "layers", however they are run, so that
a checkpoint and the random numbers of an initialisation serve every form. Called by
`families/transformer/network.py`, and by others that read places of a sequence.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from scaling.config.amounts import resolved
from scaling.models.attention import Attention
from scaling.models.dropout import dropped, skipped
from scaling.models.fields import BlockConfig
from scaling.models.layers import MLP, NORMS, Array, constrain
from scaling.models.moe import MoE
from scaling.models.observed import observed
from scaling.models.pipeline import run_pipeline, stages_here
from scaling.models.remat import policy
from scaling.models.stack import layers_of


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), or a mixture of experts in its place; with
    norms behind, norm(x + attention(x)), then norm(x + mlp(x)) (Vaswani et al. 2017, section 3.1).

    The two output projections start smaller by 1 / sqrt(2 depth), so that the sum of all blocks'
    outputs has the same variance at every depth (Radford et al. 2019, GPT-2, section 2.3).

    Gives the stream, the cache, and penalties: what its parts add to the loss or report, float32
    [B] each.
    """

    config: BlockConfig

    @nn.compact
    def __call__(
        self, x_BxLxD: Array, context: Mapping[str, Any], cache: Mapping[str, Array] | None
    ) -> tuple[Array, tuple[Any, dict[str, Array]]]:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        out_scale = 1 / math.sqrt(2 * c.depth)

        def normed(x_BxLxD: Array, name: str, here: bool) -> Array:
            return NORMS[c.norm](c.norm_eps, dtype, name=name)(x_BxLxD) if here else x_BxLxD

        before, behind = c.norms == "before", c.norms == "behind"
        h_BxLxD = normed(x_BxLxD, "attention_norm", before)
        y_BxLxD, cache = Attention(c, out_scale, name="attention")(h_BxLxD, context, cache)
        x_BxLxD = constrain(x_BxLxD + self._left(y_BxLxD, context, 0))
        x_BxLxD = normed(x_BxLxD, "attention_norm", behind)
        h_BxLxD = normed(x_BxLxD, "mlp_norm", before)
        penalties: dict[str, Array] = {}
        if c.moe.experts:
            moe = MoE(c, out_scale, name="moe")
            y_BxLxD, penalties = moe(h_BxLxD, decoding=cache is not None)
        else:
            fields = (resolved(c.mlp_width), c.mlp == "gated", dtype, out_scale, c.matmul)
            mlp = MLP(*fields, c.biases == "all", activation=c.activation, name="mlp")
            y_BxLxD = mlp(h_BxLxD)
        x_BxLxD = constrain(x_BxLxD + self._left(y_BxLxD, context, 2))
        return normed(x_BxLxD, "mlp_norm", behind), (cache, penalties)

    def _left(self, y_BxLxD: Array, context: Mapping[str, Any], site: int) -> Array:
        """What training leaves of a branch's output."""
        c, keys = self.config, context.get("dropout")
        y_BxLxD = dropped(y_BxLxD, keys, c.dropout, site)
        return skipped(y_BxLxD, keys, c.drop_path, c.depth, site + 1)


def init_blocks(config: BlockConfig) -> nn.Module:
    """The module that makes the stacked parameters of all blocks; only `init` calls it."""
    scanned = nn.scan(
        Block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(nn.broadcast, nn.broadcast),
        length=config.depth,
        metadata_params={nn.PARTITION_NAME: "layers"},
    )
    return scanned(config, name="blocks")


def run_blocks(
    config: BlockConfig, params: Any, x_BxLxD: Array, context: Mapping[str, Any], caches: Any
) -> tuple[Array, Any, dict[str, Array]]:
    """All blocks, one after the other; as a pipeline where the mesh has stages.

    Args:
      params: of all blocks, stacked on the first axis.
      caches: of all blocks, stacked likewise, or None.

    Returns:
      The stream, the caches with the new keys and values, and the penalties summed over blocks.
    """

    keys = context.get("dropout")
    # A block that drops something must know which one it is.
    numbers = None if keys is None else jnp.arange(config.depth)

    def block(numbered: Any, x_BxLxD: Array, context: Any, cache: Any) -> Any:
        (params, number), module = numbered, Block(config, parent=None)
        if number is not None:
            context = {**context, "dropout": context["dropout"].of_layer(number)}
        return module.apply({"params": params}, x_BxLxD, context, cache)

    if config.remat != "none":
        # Inside a scan the loop already keeps the compiler from undoing the remat.
        prevent_cse = not config.scan_layers
        block = jax.checkpoint(block, policy=policy(config.remat), prevent_cse=prevent_cse)

    def run(params: Any, x_BxLxD: Array, context: Any, caches: Any) -> Any:
        """Some of the blocks: as many as `params` holds, each with its number or None."""

        def body(x_BxLxD: Array, layer: Any) -> tuple[Array, Any]:
            params, cache = layer
            return block(params, checkpoint_name(x_BxLxD, "stream"), context, cache)

        if config.scan_layers:
            x_BxLxD, (caches, penalties) = jax.lax.scan(body, x_BxLxD, (params, caches))
        else:
            written = []
            for layer in layers_of((params, caches)):
                x_BxLxD, of_layer = body(x_BxLxD, layer)
                written.append(of_layer)
            caches, penalties = jax.tree.map(lambda *leaves: jnp.stack(leaves), *written)
        return x_BxLxD, caches, jax.tree.map(lambda p: p.sum(axis=0), penalties)

    # With caches (generation), or observed, the blocks run one after the other wherever they lie.
    if stages_here() == 1 or caches is not None or observed():
        return run((params, numbers), x_BxLxD, context, caches)

    def run_some(params: Any, x_BxLxD: Array, context: Any) -> tuple[Array, dict[str, Array]]:
        x_BxLxD, _, penalties = run(params, x_BxLxD, context, None)
        return x_BxLxD, penalties

    x_BxLxD, penalties = run_pipeline(config, run_some, (params, numbers), x_BxLxD, context)
    return x_BxLxD, None, penalties
