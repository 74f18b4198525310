"""The fields of a stack of attention blocks, which the configs of several families begin with.

Families inherit `BlockConfig` and add their own; the layers in this folder take it. No jax in this
file: configs are read without.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from scaling.config.marks import added, execution, traced

# Of an MLP; usual: silu of a gated one, else gelu. gelu is its approximation by tanh, gelu_exact
# that by the error function (Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2)
Activation = Literal["usual", "relu", "silu", "gelu", "gelu_exact"]


@dataclass(frozen=True)
class MoEConfig:
    """The mixture of experts in place of every block's MLP (`scaling/models/moe.py`)."""

    experts: int = 0  # routed experts a block; 0: a dense MLP
    per_token: int = 2  # experts that a token is sent to (expert choice: on average)
    width: int | None = None  # hidden channels of an expert; None: mlp_width
    shared: int = 0  # experts that see every token, beside the routed
    router: Literal["top_k", "expert_choice"] = "top_k"
    capacity_factor: float | None = (
        None  # slots an expert / (tokens * per_token / experts); None: dropless
    )


@dataclass(frozen=True)
class BlockConfig:
    """A stack of pre-norm blocks of attention and MLP (`scaling/models/blocks.py`)."""

    # What makes a decoder of it; no settings of a run (`EncoderConfig` has the others).
    causal: ClassVar[bool] = True  # a place sees itself and those before it; else all
    norm: ClassVar[Literal["rms", "layer"]] = "rms"
    biases: ClassVar[Literal["none", "qkv", "all"]] = "none"  # of which projections
    # Where they stand: before each branch, or behind the sum of the stream and the branch
    norms: ClassVar[Literal["before", "behind"]] = "before"
    activation: ClassVar[Activation] = "usual"

    width: int = 256  # channels of the residual stream
    depth: int = 4  # blocks
    heads: int = 4  # query heads
    kv_heads: int | None = None  # key and value heads; None: as many as query heads
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp: Literal["gated", "plain"] = "gated"  # SwiGLU, or GELU with one input matrix
    mlp_width: int | None = (
        None  # hidden channels; None: 4 width (plain), 8/3 width rounded up to 16 (gated)
    )
    # How a query knows where a key is: both turn with their places, a score falls with their
    # distance (`scaling/models/distance.py`), a table adds a vector to each token, or by what a
    # causal model infers
    positions: Literal["rope", "alibi", "learned", "none"] = added("rope")
    qk_norm: bool = True  # RMSNorm of queries and keys, per head
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's and embedding's initial std, over its default
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    matmul: Literal["default", "int8", "fp8"] = (
        "default"  # of the blocks' projections; 8 bits: rounded operands (extra `quantized`)
    )
    window: int | None = None  # keys a query sees, its own included; None: all up to its own
    moe: MoEConfig = MoEConfig()
    dropout: float = added(
        0.0
    )  # share of the stream's first numbers, and of what each branch adds, that training drops
    drop_path: float = added(
        0.0
    )  # share of the rows that pass by the last block's branches in training; earlier ones less
    attention: Literal["auto", "blockwise", "cudnn", "splash"] = execution(
        "auto"
    )  # auto: cudnn on a GPU, splash on a TPU where the shape allows, else blockwise
    context_parallel: Literal["gather", "ring"] = execution(
        "gather"
    )  # how keys reach the queries of other devices along mesh.seq
    pipeline_microbatches: int | None = execution(
        None
    )  # pieces of the batch in the pipeline over mesh.stage; None: as many as stages
    pipeline_repeats: int = execution(1)  # times a microbatch passes every stage (circular)
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "attention", "offload", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


@dataclass(frozen=True)
class EncoderConfig(BlockConfig):
    """The same blocks as an encoder has them: every place sees all places; LayerNorm and biases
    (as in Dosovitskiy et al. 2021, arXiv 2010.11929, section 3.1).
    """

    causal: ClassVar[bool] = False
    norm: ClassVar[Literal["rms", "layer"]] = "layer"
    biases: ClassVar[Literal["none", "qkv", "all"]] = "all"

    norms: Literal["before", "behind"] = "before"  # type: ignore[misc]
    activation: Activation = "usual"  # type: ignore[misc]
