"""The network of `random_features`: phi = activation(x u) with a drawn u, out = phi w.

Takes a batch with features [B, F]; gives predictions, and the random features that they are made
of. Called through the family's record.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.families.random_features import RandomFeaturesConfig
from scaling.models.layers import Array, parameter, truncated_normal


def projection(seed: int, inputs: int, width: int) -> Array:
    """u: independent unit Gaussians, float32 [width, inputs].

    Drawn from a fixed key wherever it is needed, and kept nowhere. Each random feature has a key of
    its own, so that a wider model has all the features of a narrower one.
    """
    key = jax.random.key(seed, impl="threefry2x32")
    keys = jax.vmap(lambda feature: jax.random.fold_in(key, feature))(jnp.arange(width))
    return jax.vmap(lambda key: jax.random.normal(key, (inputs,), jnp.float32))(keys)


class RandomFeatures(nn.Module):
    """A linear read-out of fixed random features.

    A feature before its activation has variance |x|^2 over draws of u: for `vectors`, 1 on average.
    """

    config: RandomFeaturesConfig

    @nn.compact
    def __call__(self, batch: dict[str, Array]) -> dict[str, Array]:
        """out: float32 [B, outputs]; features: [B, width]."""
        config, dtype = self.config, jnp.dtype(self.config.dtype)
        if config.inputs is None or config.outputs is None:
            raise ValueError("the model is not resolved")
        u = projection(config.feature_seed, config.inputs, config.width).astype(dtype)
        phi = jnp.einsum("BF,NF->BN", batch["features"].astype(dtype), u)
        if config.activation == "relu":
            phi = nn.relu(phi)
        phi = nn.with_logical_constraint(phi, ("batch", "act_embed"))
        init = jax.nn.initializers.zeros
        if config.readout == "normal":
            init = truncated_normal(1.0 / math.sqrt(config.width))
        shape = (config.width, config.outputs)
        w = parameter(self, "readout", init, shape, ("embed", "outputs"))
        out = jnp.einsum("BN,NO->BO", phi, w.astype(dtype), preferred_element_type=jnp.float32)
        return {"out": out, "features": phi}
