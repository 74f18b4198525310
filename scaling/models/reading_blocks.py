"""Pre-norm blocks whose attention looks where a mask says: of padded texts, sounds and images.

Called by the families that read something whole. Shapes as in `layers.py`.
"""

import math
from typing import Literal, Protocol

import flax.linen as nn
import jax.numpy as jnp

from scaling.config.amounts import resolved
from scaling.models.dropout import Keys, dropped
from scaling.models.fields import Activation
from scaling.models.layers import MLP, Array, RMSNorm, constrain
from scaling.models.reading import Reading


class ReadingConfig(Protocol):
    """What the blocks read of a family's config."""

    @property
    def width(self) -> int:
        """Channels of the stream."""

    @property
    def heads(self) -> int:
        """Of the attention."""

    @property
    def head_dim(self) -> int | None:
        """Channels a head, resolved."""

    @property
    def mlp(self) -> Literal["gated", "plain"]:
        """SwiGLU, or GELU."""

    @property
    def mlp_width(self) -> int | None:
        """Hidden channels, resolved."""

    @property
    def qk_norm(self) -> bool:
        """Whether queries and keys have a norm."""

    @property
    def norm_eps(self) -> float:
        """Added to the mean square."""

    @property
    def dtype(self) -> str:
        """Of activations and matmuls."""


class ReadingBlock(nn.Module):
    """The layers that blocks of this kind are made of."""

    config: ReadingConfig
    branches: int  # of the whole stack: the sum of all has the same variance at every depth
    activation: Activation = "usual"  # of MLPs
    scale_scores: bool = True  # divided by the root of a head's channels
    dropout: float = 0.0  # share of what each branch adds that is dropped where keys are given

    def _reading(self) -> Reading:
        c = self.config
        eps = c.norm_eps if c.qk_norm else None
        head_dim, dtype = resolved(c.head_dim), jnp.dtype(c.dtype)
        fields = (c.width, dtype, 1 / math.sqrt(self.branches), eps, self.scale_scores)
        return Reading(c.heads, head_dim, *fields)

    def _mlp(self) -> MLP:
        c = self.config
        scale = 1 / math.sqrt(self.branches)
        fields = (resolved(c.mlp_width), c.mlp == "gated", jnp.dtype(c.dtype), scale)
        return MLP(*fields, activation=self.activation)

    def _norm(self) -> RMSNorm:
        return RMSNorm(self.config.norm_eps, jnp.dtype(self.config.dtype))

    def _dropped(self, y_BxLxD: Array, drops: Keys | None, site: int) -> Array:
        return dropped(y_BxLxD, drops, self.dropout, site)


class EncoderBlock(ReadingBlock):
    """x + attention(norm(x)), then x + mlp(norm(x)); every place sees all of the source."""

    def setup(self) -> None:
        """The two branches."""
        self.attention_norm, self.attention = self._norm(), self._reading()
        self.mlp_norm, self.mlp = self._norm(), self._mlp()

    def __call__(
        self,
        x_BxSxD: Array,
        seen_BxSxS: Array,
        cos: Array | None,
        sin: Array | None,
        bias_HxSxS: Array | None = None,
        drops: Keys | None = None,
    ) -> Array:
        """The stream behind the block; `bias`: of the scores."""
        table = None if cos is None or sin is None else (cos, sin)
        h_BxSxD = self.attention_norm(x_BxSxD)
        keys = self.attention.keys(h_BxSxD, table)
        read_BxSxD = self.attention(h_BxSxD, keys, seen_BxSxS, table, bias_HxSxS)
        x_BxSxD = constrain(x_BxSxD + self._dropped(read_BxSxD, drops, 0))
        made_BxSxD = self.mlp(self.mlp_norm(x_BxSxD))
        return constrain(x_BxSxD + self._dropped(made_BxSxD, drops, 1))


class CrossBlock(ReadingBlock):
    """x + attention(norm(x), norm(y)), then x + mlp(norm(x)): places of one stream read another."""

    def setup(self) -> None:
        """The two branches."""
        self.reading_norm, self.read_norm, self.reading = (
            self._norm(),
            self._norm(),
            self._reading(),
        )
        self.mlp_norm, self.mlp = self._norm(), self._mlp()

    def __call__(self, x_BxLxD: Array, y_BxSxD: Array, seen_BxLxS: Array) -> Array:
        """The stream x behind the block."""
        keys = self.reading.keys(self.read_norm(y_BxSxD))
        x_BxLxD = constrain(x_BxLxD + self.reading(self.reading_norm(x_BxLxD), keys, seen_BxLxS))
        return constrain(x_BxLxD + self.mlp(self.mlp_norm(x_BxLxD)))
