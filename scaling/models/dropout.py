"""Dropout and stochastic depth, and where their random numbers come from.

In training the batch has one field more, `dropout`: a key for each row, which the step makes of
(seed, step) and of the row's place in the whole batch (`scaling/train/augment.py`). A layer folds
its number into the keys (`Keys.of_layer`), and what is dropped in it the number of its site. So
what a row loses depends on nothing else: not on the pieces that the batch is cut into, the mesh, a
packed group, on layers being scanned, unrolled, or computed again; and a run that was stopped goes
on with the same. Without the field, in evaluation and in runs that drop nothing, nothing is dropped
and nothing of this is in the program. Called by the families' networks.
"""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from scaling.models.layers import Array

FIELD = "dropout"  # of a batch: uint32 [B, 2], the data of keys
OUTSIDE = 2**31  # the site of what stands in no layer; layers and their sites have small numbers


@flax.struct.dataclass
class Keys:
    """A key for each row: of a whole batch, or of the layer with a number."""

    data_Bx2: Array
    number: Array | int | None = None

    def of(self, site: Array | int) -> Array:
        """[B] keys of a site."""
        keys_B = jax.random.wrap_key_data(self.data_Bx2)
        return jax.vmap(lambda key: jax.random.fold_in(key, site))(keys_B)

    def of_layer(self, number: Array | int) -> "Keys":
        """Of the layer with a number, of the keys of a whole batch."""
        return Keys(jax.random.key_data(self.of(number)), number)


def keys_of(batch: Mapping[str, Any]) -> Keys | None:
    """Those of a batch; None: nothing is dropped."""
    return Keys(batch[FIELD]) if FIELD in batch else None


def dropped(x: Array, keys: Keys | None, rate: float, site: int, rows: int = 0) -> Array:
    """Each number is 0 with probability `rate`, the others are divided by 1 - rate (Srivastava et
    al. 2014). `rows` is the axis of the rows.
    """
    if keys is None or not rate:
        return x
    shape = x.shape[:rows] + x.shape[rows + 1 :]
    keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys.of(site))
    return jnp.where(jnp.moveaxis(keep, 0, rows), x / (1 - rate), 0).astype(x.dtype)


def skipped(y: Array, keys: Keys | None, rate: float, depth: int, site: int) -> Array:
    """What a branch adds to the stream, [B, ...]: all of it 0 in a share of the rows, which is
    `rate` in the last of `depth` layers and falls to `rate / depth` in the first; the others are
    divided by what is left (Huang et al. 2016, arXiv 1603.09382, section 3).
    """
    if keys is None or keys.number is None or not rate:
        return y
    here = jnp.float32(rate / depth) * (jnp.asarray(keys.number) + 1)
    keep_B = jax.vmap(jax.random.uniform)(keys.of(site)) >= here
    keep = keep_B.reshape(-1, *(1,) * (y.ndim - 1))
    return jnp.where(keep, y / (1 - here).astype(y.dtype), 0).astype(y.dtype)
