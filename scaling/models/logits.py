"""How large the logits of an attention are, without all of them at once. Called by `attention.py`
where a run is watched.
"""

import jax
import jax.numpy as jnp

from scaling.models.flash import seen, together
from scaling.models.layers import Array

_QUERIES = 256  # whose logits exist at a time


def rms_of_logits(
    q_BxHxLxK: Array,
    k_BxGxLxK: Array,
    segments_BxL: Array | None,
    window: int | None,
    causal: bool = True,
) -> Array:
    """RMS of every scaled query with every key that it sees, before the softmax; float32."""
    batch, heads, length, head_dim = q_BxHxLxK.shape
    groups, height = k_BxGxLxK.shape[1], min(_QUERIES, length)
    rows = -(-length // height)
    more = rows * height - length
    q = q_BxHxLxK.reshape(batch, groups, heads // groups, length, head_dim)
    q = jnp.pad(q, [(0, 0)] * 3 + [(0, more), (0, 0)])
    k_segments = segments_BxL
    q_segments = None if segments_BxL is None else jnp.pad(segments_BxL, [(0, 0), (0, more)])

    def of_rows(first: Array) -> tuple[Array, Array]:
        piece = jax.lax.dynamic_slice_in_dim(q, first, height, axis=3)
        scores = jnp.einsum(
            "bghlk,bgsk->bghls", piece, k_BxGxLxK, preferred_element_type=jnp.float32
        )
        places = first + jnp.arange(height)
        distance_LxS = places[:, None] - jnp.arange(length)[None]
        theirs = q_segments
        if theirs is not None:
            theirs = jax.lax.dynamic_slice_in_dim(theirs, first, height, axis=1)
        real_L = (places < length)[None, None, None, :, None]
        if causal:
            visible = seen(distance_LxS, theirs, k_segments, window) & real_L
        elif theirs is None or k_segments is None:
            visible = real_L
        else:
            visible = together(theirs, k_segments) & real_L
        squares = jnp.sum(jnp.where(visible, jnp.square(scores), 0.0))
        # All heads see as much. A whole number: on CPUs, jaxlib 0.10.2 now and then loses a part of
        # a sum of floats that are made of no array, as those of a mask are.
        count = jnp.sum(jnp.broadcast_to(visible, (batch, 1, 1, height, length)), dtype=jnp.int32)
        return squares, count.astype(jnp.float32) * heads

    squares, counts = jax.lax.map(of_rows, height * jnp.arange(rows))
    return jnp.sqrt(squares.sum() / counts.sum())
