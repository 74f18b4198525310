"""The fields of two readers, which the configs of several families begin with; the layers are in
`towers.py`. No jax in this file: configs are read without.
"""

from dataclasses import dataclass
from typing import Literal

from scaling.config.marks import execution, traced


@dataclass(frozen=True)
class TowersConfig:
    """An image's reader and a text's, equally wide and deep."""

    width: int = 64  # channels of both streams
    depth: int = 2  # blocks of each
    heads: int = 4
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp: Literal["gated", "plain"] = "gated"  # SwiGLU, or GELU with one input matrix
    mlp_width: int | None = None  # hidden channels; None: as a transformer's
    qk_norm: bool = True  # RMSNorm of queries and keys, per head
    stem: int = 16  # channels of two convolutions before the patches; 0: there are none
    patch: int = 4  # side of a patch, pixels; no higher than the image
    height: int | None = None  # pixels; None: what the data have, as the three below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    vocab: int | None = None  # tokens; None: what the tokenizer has
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    rope_theta: float = 10_000.0  # base of the rotary positions' wavelengths
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's and embedding's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)
