"""The transformer's block, and how a stack of them is run: scanned or unrolled, with remat.

The parameters of all blocks lie stacked on a leading axis, "layers", however they are run, so that
a checkpoint and the random numbers of an initialisation serve every form. Called by
`transformer.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.config import TransformerConfig
from scaling.ladder import resolved
from scaling.models.attention import Attention
from scaling.models.layers import MLP, Array, RMSNorm, constrain

# What the backward pass keeps, by name; the rest is computed again (jax.checkpoint).
_REMAT = {
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)).

    The two output projections start smaller by 1 / sqrt(2 depth), so that the sum of all blocks'
    outputs has the same variance at every depth (Radford et al. 2019, GPT-2, section 2.3).

    Gives the stream, the cache, and penalties: what its parts add to the loss, each float32 [B].
    """

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x_BxLxD: Array, context: Mapping[str, Any], cache: Mapping[str, Array] | None
    ) -> tuple[Array, tuple[Any, dict[str, Array]]]:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        mlp_width = resolved(c.mlp_width)
        out_scale = 1 / math.sqrt(2 * c.depth)
        h_BxLxD = RMSNorm(c.norm_eps, dtype, name="attention_norm")(x_BxLxD)
        y_BxLxD, cache = Attention(c, out_scale, name="attention")(h_BxLxD, context, cache)
        x_BxLxD = constrain(x_BxLxD + y_BxLxD)
        h_BxLxD = RMSNorm(c.norm_eps, dtype, name="mlp_norm")(x_BxLxD)
        y_BxLxD = MLP(mlp_width, c.mlp == "gated", dtype, out_scale, name="mlp")(h_BxLxD)
        return constrain(x_BxLxD + y_BxLxD), (cache, {})


def init_blocks(config: TransformerConfig) -> nn.Module:
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
    config: TransformerConfig, params: Any, x_BxLxD: Array, context: Mapping[str, Any], caches: Any
) -> tuple[Array, Any, dict[str, Array]]:
    """All blocks, one after the other.

    Args:
      params: of all blocks, stacked on the first axis.
      caches: of all blocks, stacked likewise, or None.

    Returns:
      The stream, the caches with the new keys and values, and the penalties summed over blocks.
    """

    def block(params: Any, x_BxLxD: Array, context: Any, cache: Any) -> Any:
        module = Block(config, parent=None)
        return module.apply({"params": params}, x_BxLxD, context, cache)

    if config.remat != "none":
        # Inside a scan the loop already keeps the compiler from undoing the remat.
        prevent_cse = not config.scan_layers
        block = jax.checkpoint(block, policy=_REMAT[config.remat], prevent_cse=prevent_cse)

    if config.scan_layers:

        def body(x_BxLxD: Array, layer: Any) -> tuple[Array, Any]:
            params, cache = layer
            return block(params, x_BxLxD, context, cache)

        x_BxLxD, (caches, penalties) = jax.lax.scan(body, x_BxLxD, (params, caches))
        return x_BxLxD, caches, jax.tree.map(lambda p: p.sum(axis=0), penalties)

    written = []
    layers = zip(_split(params, config.depth), _split(caches, config.depth), strict=True)
    for layer_params, cache in layers:
        x_BxLxD, of_layer = block(layer_params, x_BxLxD, context, cache)
        written.append(of_layer)
    caches, penalties = jax.tree.map(lambda *leaves: jnp.stack(leaves), *written)
    return x_BxLxD, caches, jax.tree.map(lambda p: p.sum(axis=0), penalties)


def _split(stacked: Any, depth: int) -> list[Any]:
    """The layers of a stacked tree. The gradient of a split is one concatenation; that of `depth`
    slices is a sum of `depth` arrays of the whole size.
    """
    leaves, structure = jax.tree.flatten(stacked)
    columns = [[part[0] for part in jnp.split(leaf, depth)] for leaf in leaves]
    return [jax.tree.unflatten(structure, [c[i] for c in columns]) for i in range(depth)]
