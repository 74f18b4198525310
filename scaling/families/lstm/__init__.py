"""Long short-term memory as a language model: its config, its size, its record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Roles, Size
from scaling.config.marks import added, execution, traced
from scaling.families import from_data


@dataclass(frozen=True)
class LSTMConfig:
    """Layers of long short-term memory over tokens (`scaling/families/lstm/network.py`)."""

    family: Literal["lstm"] = "lstm"
    width: int = 256  # hidden units of a layer, channels of the residual stream
    depth: int = 2  # layers
    vocab: int | None = None  # tokens; None: what the tokenizer has
    tie_embeddings: bool = True  # the output head is the embedding, transposed
    forget_bias: float = 1.0  # at the start; large: the cell keeps what it has
    dropout: float = added(
        0.0
    )  # share of what is added to the stream that training drops; states keep all
    norm_eps: float = 1e-6  # added to the mean square in RMSNorm
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's and embedding's initial std, over its default
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters and cells stay float32
    )
    unroll: int = execution(2)  # steps of time in a turn of the compiled loop
    scan_layers: bool = execution(True)  # one compiled layer, looped; False: unrolled
    remat: Literal["none", "full"] = execution(
        "none"
    )  # full: the backward pass runs a layer's recurrence again


def _resolve(config: LSTMConfig, facts: Facts) -> LSTMConfig:
    """The vocabulary, from the data. Raises ConfigError where that is not the config's."""
    return dataclasses.replace(config, vocab=from_data.vocabulary(config, facts.sizes))


def size(config: LSTMConfig) -> Size:
    """Parameters and training FLOPs a token of a resolved model, exactly.

    Training is 3 times the forward pass, which has a layer's two matrices and the head's; no FLOPs
    depend on the length of a sequence. Gates and norms are not counted, nor is the lookup.
    """
    width, embedding = config.width, resolved(config.vocab) * config.width
    matrices = 2 * width * 4 * width  # of the input and of the state, for 4 gates
    non_embedding = config.depth * (matrices + 4 * width + width) + width  # biases, norms
    params = non_embedding + (1 if config.tie_embeddings else 2) * embedding
    return Size(params, non_embedding, params, 3 * 2.0 * (config.depth * matrices + embedding))


FAMILY = Family(
    config=LSTMConfig,
    module="scaling.families.lstm.network:Network",
    reads=frozenset({"tokens"}),
    gives=frozenset({"hidden", "head"}),
    resolve=_resolve,
    roles=lambda config: Roles(
        outputs=("head",), tied=("final_norm",) if config.tie_embeddings else ()
    ),
    size=lambda config, data: size(config),
    remats=("none", "full"),
    stated=lambda model: None if model.vocab is None else {"vocab": model.vocab},
    generate="scaling.families.lstm.generate:generate",
    reader="scaling.families.lstm.generate:reader",
    causal=True,
    ranges=((("unroll",), AT_LEAST_ONE), (("norm_eps",), POSITIVE), (("dropout",), DECAY)),
)

__all__ = ["FAMILY", "LSTMConfig", "size"]
