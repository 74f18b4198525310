"""The masked autoencoder: an image and keys to the patches that were hidden.

Takes a resolved MaskedAutoencoderConfig. The encoder is the vision transformer's network without
its head (`scaling/families/vit/network.py`).
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.families import from_data
from scaling.families.masked_autoencoder import MaskedAutoencoderConfig, decoder, kept
from scaling.families.vit.network import OWN, stacked
from scaling.families.vit.network import Network as Encoder
from scaling.models.dropout import OUTSIDE, dropped, keys_of
from scaling.models.layers import NORMS, Array, Projection, constrain, parameter, truncated_normal
from scaling.models.patches import cut


class Decoder(nn.Module):
    """What the encoder made of the patches that it saw, and one vector in the place of each other,
    to the pixels of all of them.
    """

    config: MaskedAutoencoderConfig
    numbers: int  # of a patch

    @nn.compact
    def __call__(self, x_BxKxD: Array, restore_BxL: Array) -> Array:
        """[B, K, D] of the patches in the order in which they were dealt out, and the place of each
        patch in that order [B, L] -> float32 [B, L, P].
        """
        c, blocks, init = self.config, decoder(self.config), truncated_normal(OWN)
        rows, length = restore_BxL.shape
        shape = (x_BxKxD.shape[-1], blocks.width)
        into = Projection("BKD,DE->BKE", shape, ("mlp", "embed"), c.dtype, bias=True, name="into")
        x_BxKxE = into(x_BxKxD)
        mask_E = parameter(self, "mask_token", init, (blocks.width,), ("embed",)).astype(c.dtype)
        hidden = (rows, length - x_BxKxE.shape[1], blocks.width)
        x_BxLxE = jnp.concatenate([x_BxKxE, jnp.broadcast_to(mask_E[None, None], hidden)], axis=1)
        x_BxLxE = jnp.take_along_axis(x_BxLxE, restore_BxL[:, :, None], axis=1)
        axes = ("positions", "embed")
        positions = parameter(self, "positions", init, x_BxLxE.shape[1:], axes)
        x_BxLxE = stacked(self, blocks, constrain(x_BxLxE + positions.astype(c.dtype)[None]), None)
        x_BxLxE = NORMS[blocks.norm](c.norm_eps, "float32", name="final_norm")(x_BxLxE)
        out = (blocks.width, self.numbers), ("embed", "outputs")
        return Projection("BLE,EP->BLP", *out, "float32", bias=True, name="pixels")(x_BxLxE)


class Network(Encoder):
    """The encoder on the patches that are kept, and the decoder (He et al. 2022, arXiv 2111.06377,
    figure 1).
    """

    config: MaskedAutoencoderConfig  # type: ignore[assignment]

    @nn.compact
    def __call__(self, batch: Mapping[str, Array]) -> dict[str, Any]:
        """
        Args:
          batch: image, float32 [B, Y, X, C]; key [B], of which patches are hidden of each row: left
            out, none are.

        Returns:
          features: of what was seen, float32 [B, D]; patches: as they are predicted, float32
          [B, L, P], cut: as they are, masked: float32 [B, L], 1 where the encoder did not see it.
        """
        c, keys = self.config, keys_of(batch)
        length, numbers = from_data.patches(c)
        own, seen = int(c.pool == "class"), kept(c) if "key" in batch else length
        x_BxLxD, rows = self.places(batch["image"]), batch["image"].shape[0]
        order_BxL = jnp.broadcast_to(jnp.arange(length)[None], (rows, length))
        if "key" in batch:
            chance_BxL = jax.vmap(lambda key: jax.random.uniform(key, (length,)))(batch["key"])
            order_BxL = jnp.argsort(chance_BxL, axis=1)
            of_patches = jnp.take_along_axis(x_BxLxD[:, own:], order_BxL[:, :seen, None], axis=1)
            x_BxLxD = constrain(jnp.concatenate([x_BxLxD[:, :own], of_patches], axis=1))
        x_BxLxD = self.encoded(dropped(x_BxLxD, keys, c.dropout, OUTSIDE), keys)
        restore_BxL = jnp.argsort(order_BxL, axis=1)
        patches = Decoder(c, numbers, name="decoder")(x_BxLxD[:, own:], restore_BxL)
        return {
            "features": self.read(x_BxLxD),
            "patches": patches,
            "cut": cut(batch["image"], from_data.patch_sides(c)),
            "masked": (restore_BxL >= seen).astype(jnp.float32),
        }
