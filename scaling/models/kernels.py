"""Attention kernels of the accelerators: cuDNN's on a GPU, splash (Pallas) on a TPU.

Take queries, keys and values by head and the documents' numbers; give the weighted values. Beside
each kernel stands what it cannot do. Called by `attention.py`, which places them: the partitioner
cannot cut a kernel. Shapes as in `layers.py`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as pallas

from scaling.models.flash import Piece
from scaling.models.layers import Array

# cuDNN takes documents as a matrix [B, 1, L, L] only; beyond this it is too large.
_CUDNN_DOCUMENTS = 8192
_LANES = 128  # of a TPU's vector registers


def cudnn_cannot(dtype: Any, head_dim: int, length: int, documents: bool, shards: int) -> str:
    """Why `cudnn` cannot serve this shape, or nothing."""
    if dtype not in (jnp.bfloat16, jnp.float16):
        return f"it has no {jnp.dtype(dtype).name}, set model.dtype=bfloat16"
    if head_dim % 8 or head_dim > 128:
        return f"model.head_dim={head_dim} must be a multiple of 8 up to 128"
    if shards > 1:
        return f"it cannot be cut along the length, by mesh.seq={shards}"
    if documents and (length % 2 or length > _CUDNN_DOCUMENTS):
        return f"with documents data.seq_len={length} must be even and at most {_CUDNN_DOCUMENTS}"
    return ""


def cudnn(
    q_BxHxLxK: Array,
    k_BxGxLxK: Array,
    v_BxGxLxK: Array,
    segments_BxL: Array | None,
    window: int | None,
    causal: bool = True,
) -> Array:
    """[B, H, L, K] by cuDNN's flash attention; queries are scaled already. Memory is linear in the
    length without documents.
    """
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q_BxHxLxK, k_BxGxLxK, v_BxGxLxK))
    mask = None
    if segments_BxL is not None:
        mask = (segments_BxL[:, :, None] == segments_BxL[:, None, :])[:, None]
    out = jax.nn.dot_product_attention(
        q,
        k,
        v,
        mask=mask,
        scale=1.0,
        is_causal=causal,
        local_window_size=None if window is None else (window - 1, 0),
        implementation="cudnn",
    )
    return jnp.swapaxes(out, 1, 2)


def splash_cannot(length: int, shards: int) -> str:
    """Why `splash` cannot serve this shape, or nothing."""
    if length % (shards * _LANES):
        parts = f" in mesh.seq={shards} parts" if shards > 1 else ""
        return f"data.seq_len={length}{parts} must be a multiple of {_LANES}"
    return ""


def splash_kernel(length: int, window: int | None, shards: int = 1, interpret: bool = False) -> Any:
    """The kernel for `splash`: causal, with the list of blocks that meet. A pytree: where queries
    are cut into `shards` along the length, so are its arrays.
    """
    whole = (length, length)
    if window is None:
        mask: Any = pallas.CausalMask(whole, shard_count=shards)
    else:
        mask = pallas.LocalMask(whole, (window - 1, 0), offset=0, shard_count=shards)
    block = max(n for n in (128, 256, 512) if length // shards % n == 0)
    sizes = pallas.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    return pallas.make_splash_mha(
        pallas.MultiHeadMask([mask]),  # the same for every head
        block_sizes=sizes,
        head_shards=1,
        q_seq_shards=shards,
        residual_checkpoint_name="attention",  # as in `attention.py`
        interpret=interpret,
    )


def splash(kernel: Any, q_BxHxLxK: Array, q_segments_BxL: Array | None, piece: Piece) -> Array:
    """[B, H, L, K] by the Pallas kernel; queries are scaled already. Memory is linear."""
    k_BxGxSxK, v_BxGxSxK, k_segments_BxS = piece
    if q_segments_BxL is None or k_segments_BxS is None:
        return jax.vmap(lambda q, k, v: kernel(q, k, v))(q_BxHxLxK, k_BxGxSxK, v_BxGxSxK)
    segments = pallas.SegmentIds(q_segments_BxL, k_segments_BxS)
    return jax.vmap(kernel)(q_BxHxLxK, k_BxGxSxK, v_BxGxSxK, segments)
