"""A number for each head that is added to a score, by how far the key stands from the query.

Distances share a number in buckets: half of them have one each, beginning with none; the rest are
as wide as they are far, up to a farthest distance, beyond which all is one bucket. A table of the
buckets' numbers is learned (Raffel et al. 2020, arXiv 1910.10683, section 2.1). Called by families
whose stacks have such a table.
"""

import jax.numpy as jnp
import numpy as np

from scaling.models.layers import Array


def buckets(distances: np.ndarray, count: int, farthest: int, causal: bool) -> np.ndarray:
    """Bucket, int32, of distances (of the query's place over the key's), of any shape.

    Args:
      count: of buckets, even.
      farthest: distance that begins the last bucket, more than `count` / 2.
      causal: keys stand before their query, and all buckets are theirs; else half are of those
        behind it.
    """
    ways = 1 if causal else 2
    of_each = count // ways
    exact = of_each // 2
    far = np.maximum(distances, 0) if causal else np.abs(distances)
    # float32, as the published models have them: a logarithm that is a whole number falls so.
    share = np.log(np.maximum(far, 1).astype(np.float32) / exact) / np.float32(
        np.log(farthest / exact)
    )
    wide = exact + (share * np.float32(of_each - exact)).astype(np.int32)
    found = np.where(far < exact, far, np.minimum(wide, of_each - 1))
    behind = 0 if causal else np.where(distances < 0, of_each, 0)
    return np.asarray(found + behind, np.int32)


def bias(
    table_NxH: Array, length: int, farthest: int, causal: bool, at: Array | None = None
) -> Array:
    """float32 [H, L, S] of `length` queries and as many keys; `at`: of the query at this slot
    alone, [H, 1, S].
    """
    apart = np.arange(1 - length, length)
    of_distance_DxH = table_NxH[buckets(apart, len(table_NxH), farthest, causal)]
    slots = np.arange(length)
    # Of the query less that of the key, from where the least distance is 0.
    if at is None:
        places = jnp.asarray(slots[:, None] - slots[None, :] + length - 1)
    else:
        places = (at - slots + length - 1)[None]
    return jnp.moveaxis(of_distance_DxH[places], 2, 0)
