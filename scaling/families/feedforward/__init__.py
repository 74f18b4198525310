"""Feed-forward language models, neural n-grams: their config, their size, their record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Roles, Size
from scaling.config.marks import added, execution, traced
from scaling.families import from_data


@dataclass(frozen=True)
class FeedforwardConfig:
    """MLPs over the last few tokens (`scaling/families/feedforward/network.py`)."""

    family: Literal["feedforward"] = "feedforward"
    width: int = 256  # channels of an embedding and of the residual stream
    depth: int = 2  # blocks
    context: int = 8  # tokens that the next one is told from
    mlp_width: int | None = None  # hidden channels of a block; None: 4 width
    vocab: int | None = None  # tokens; None: what the tokenizer has
    tie_embeddings: bool = True  # the output head is the embedding, transposed
    dropout: float = added(0.0)  # share of what is added to the stream that training drops
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
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


def _resolve(config: FeedforwardConfig, facts: Facts) -> FeedforwardConfig:
    """The vocabulary, from the data, and the blocks' width. Raises ConfigError where the vocabulary
    is not the config's.
    """
    return dataclasses.replace(
        config,
        vocab=from_data.vocabulary(config, facts.sizes),
        mlp_width=config.mlp_width or 4 * config.width,
    )


def _scaled(config: FeedforwardConfig, width: int, depth: int) -> dict[str, Any]:
    """The hidden channels in proportion; as many tokens."""
    own = config.mlp_width
    hidden = own and max(1, round(own * width / config.width))
    return {"model.width": width, "model.depth": depth, "model.mlp_width": hidden}


def size(config: FeedforwardConfig) -> Size:
    """Parameters and training FLOPs a token of a resolved model, exactly: 3 times the forward
    pass's matmuls. The lookup is not counted.
    """
    width, embedding = config.width, resolved(config.vocab) * config.width
    first, block = config.context * width**2, 2 * width * resolved(config.mlp_width)
    matrices = first + config.depth * block
    non_embedding = matrices + (config.depth + 1) * width  # norms
    params = non_embedding + (1 if config.tie_embeddings else 2) * embedding
    return Size(params, non_embedding, params, 3 * 2.0 * (matrices + embedding))


FAMILY = Family(
    config=FeedforwardConfig,
    module="scaling.families.feedforward.network:Network",
    reads=frozenset({"tokens"}),
    gives=frozenset({"hidden", "head"}),
    resolve=_resolve,
    scaled=_scaled,
    roles=lambda config: Roles(
        outputs=("head",),
        tied=("final_norm",) if config.tie_embeddings else (),
        blocks=("blocks",),
        branches=("mlp/down",),
        branch_init=-0.5,
    ),
    size=lambda config, data: size(config),
    remats=("none", "dots", "full"),
    stated=lambda model: None if model.vocab is None else {"vocab": model.vocab},
    causal=True,
    ranges=(
        (("context", "mlp_width"), AT_LEAST_ONE),
        (("norm_eps",), POSITIVE),
        (("dropout",), DECAY),
    ),
)

__all__ = ["FAMILY", "FeedforwardConfig", "size"]
