"""Bidirectional encoders of text (BERT): their config, their size, their record.

Read without jax; the network is in `network.py`.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config import choices
from scaling.config.amounts import resolved
from scaling.config.contracts import AT_LEAST_ONE, DECAY, POSITIVE, Facts, Family, Roles, Size
from scaling.config.marks import added, execution, traced
from scaling.errors import ConfigError
from scaling.families import from_data
from scaling.models.fields import EncoderConfig
from scaling.objectives.masked_tokens import SHARE, count


@dataclass(frozen=True)
class BertConfig:
    """Tokens as places of an encoder, each of which sees all others of its text
    (`scaling/families/bert/network.py`).
    """

    family: Literal["bert"] = "bert"
    width: int = 64  # channels of the residual stream
    depth: int = 4  # blocks
    heads: int = 4
    head_dim: int | None = None  # channels a head; None: width / heads
    mlp_width: int | None = None  # hidden channels; None: 4 width
    positions: Literal["rotary", "learned"] = (
        "rotary"  # turned queries and keys, or a table added to the embedding as in the original
    )
    places: int | None = None  # rows of the table of positions; needed where it is learned
    pool: Literal["class", "mean"] = (
        "class"  # what the label is read from: the first token, or the mean over the text's
    )
    head: Literal["auto", "tokens", "passages", "classes", "tags", "spans", "several"] = (
        "auto"  # what is read out; auto: what the data ask for
    )
    classes: int | None = None  # of a label, or tags; None: what the data have
    # Of several heads: which, with commas; the tags that there are; and whether each task's loss is
    # weighed by a variance that is learned. The first two are filled in from the data
    heads_of: str | None = added(None)
    tags: int | None = added(None)
    uncertainty: bool = added(False)
    vocab: int | None = None  # tokens; None: what the tokenizer has
    mask_row: bool = added(
        True
    )  # the table has a row more, that which masks; False: a token does (objective.mask_token)
    # Before each branch, and one at the end; or, as in the original, behind each sum, and one of
    # the embedding
    norms: Literal["before", "behind"] = added("before")
    activation: Literal["gelu", "gelu_exact", "relu", "silu"] = added(
        "gelu"
    )  # of MLPs and the head of tokens; gelu: its approximation by tanh
    token_bias: bool = added(False)  # the logits of tokens have biases
    norm_eps: float = 1e-6  # added to the variance in LayerNorm
    rope_theta: float = 10_000.0  # base of the rotary wavelengths, positions
    init_scale: float = traced(
        1.0, argument=False
    )  # of every matrix's and table's initial std, over its default
    dropout: float = 0.0  # share of the stream's and the branches' numbers that training drops
    drop_path: float = 0.0  # share of rows that pass by the last block in training; earlier less
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of activations and matmuls; parameters stay float32
    )
    attention: Literal["auto", "plain"] = execution(
        "auto"
    )  # auto: cudnn on a GPU where the shape allows; plain: all scores at once
    pipeline_microbatches: int | None = execution(
        None
    )  # pieces of the batch in the pipeline over mesh.stage; None: as many as stages
    scan_layers: bool = execution(True)  # one compiled block, looped; False: unrolled
    remat: Literal["none", "dots", "attention", "full"] = execution(
        "none"
    )  # what the backward pass computes again (`scaling/models/remat.py`)


def encoder(config: BertConfig) -> EncoderConfig:
    """The blocks of a resolved model."""
    return EncoderConfig(
        width=config.width,
        depth=config.depth,
        heads=config.heads,
        kv_heads=config.heads,
        head_dim=config.head_dim,
        mlp="plain",
        mlp_width=config.mlp_width,
        positions="rope" if config.positions == "rotary" else "none",
        qk_norm=False,
        norm_eps=config.norm_eps,
        norms=config.norms,
        activation=config.activation,
        dropout=config.dropout,
        drop_path=config.drop_path,
        dtype=config.dtype,
        attention="auto" if config.attention == "auto" else "blockwise",
        pipeline_microbatches=config.pipeline_microbatches,
        scan_layers=config.scan_layers,
        remat=config.remat,
    )


def _resolve(config: BertConfig, facts: Facts) -> BertConfig:
    """Vocabulary, head and derived sizes. Raises ConfigError."""
    head_dim = from_data.head_dim(config)
    if head_dim % 2 and config.positions == "rotary":
        raise ConfigError(f"model.head_dim={head_dim} must be even: positions turn pairs")
    if config.positions == "learned" and config.places is None:
        raise ConfigError(
            "model.positions=learned needs model.places: the tokens of the longest text"
        )
    known: dict[str, Any] = {"head": _head(facts.sizes) if config.head == "auto" else config.head}
    if known["head"] == "several":
        known |= _several(config, facts.sizes)
    elif config.uncertainty:
        raise ConfigError("model.uncertainty=True is of several tasks; leave it at False")
    if known["head"] in ("classes", "tags"):
        known["classes"] = from_data.classes(config, {"classes": facts.sizes.get(known["head"], 0)})
    return dataclasses.replace(
        config,
        vocab=from_data.vocabulary(config, facts.sizes, padded=True),
        head_dim=head_dim,
        mlp_width=config.mlp_width or 4 * config.width,
        **known,
    )


def _head(sizes: Mapping[str, int]) -> str:
    known = ("several", "passages", "classes", "tags", "spans")
    return next((name for name in known if name in sizes), "tokens")


def _several(config: BertConfig, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The heads that the data ask for. Raises ConfigError where the config says others."""
    asked = {"classes": "classes", "tags": "tags", "spans": "spans", "tokens": "masked"}
    found: dict[str, Any] = {
        "heads_of": ",".join(name for name, of in asked.items() if of in sizes),
        "classes": sizes.get("classes"),
        "tags": sizes.get("tags"),
    }
    return {name: from_data.as_there(config, name, there) for name, there in found.items()}


def tasks(config: BertConfig) -> int:
    """How many tasks several heads are of."""
    return len((config.heads_of or "").split(","))


def rows(config: BertConfig) -> int:
    """Of the table of tokens of a resolved model."""
    return resolved(config.vocab) + config.mask_row


def _scaled(config: BertConfig, width: int, depth: int) -> dict[str, Any]:
    """Heads of about as many channels as the config's, MLPs in proportion."""
    mlp = config.mlp_width and max(1, round(config.mlp_width * width / config.width))
    heads = from_data.even_heads(config, width)
    return {"model.width": width, "model.depth": depth, **heads, "model.mlp_width": mlp}


def size(config: BertConfig, data: Any) -> Size:
    """Parameters and training FLOPs a unit of data of a resolved model, exactly: 3 times the
    forward pass's matmuls. Of masked tokens as many are predicted as the objective masks by
    default.
    """
    width, depth, mlp = config.width, config.depth, resolved(config.mlp_width)
    (length,), _ = choices.kind(data).shapes(data)["tokens"]
    inner, symbols = config.heads * resolved(config.head_dim), rows(config)
    matrices = 4 * width * inner + 2 * width * mlp
    biases = 3 * inner + width + mlp + width
    params = 2 * width + depth * (matrices + biases + 4 * width) + 2 * width
    if config.positions == "learned":
        params += resolved(config.places) * width
    heads = (config.heads_of or "").split(",") if config.head == "several" else [config.head]
    params += len(heads) if config.uncertainty else 0
    forward = depth * (length * matrices + 2 * length * length * inner)
    for head in heads:
        own, of_head = _head_size(config, head, length)
        params, forward = params + own, forward + of_head
    table = symbols * width
    flops = 3 * 2.0 * forward / data.units_per_example
    return Size(params + table, params, params + table, flops)


def _head_size(config: BertConfig, head: str, length: int) -> tuple[int, int]:
    """(parameters, multiplications of a row) of one head."""
    width, symbols = config.width, rows(config)
    into_pooled = width * width + width
    if head in ("tokens", "passages"):
        # A bias, a norm of a scale and a bias, and one number a token
        own = width * width + 3 * width + config.token_bias * symbols
        forward = count(SHARE, length) * (width * width + (width + config.token_bias) * symbols)
        if head == "tokens":
            return own, forward
        return own + into_pooled + 2 * width + 2, forward + width * width + 2 * width
    several = config.head == "several"
    outputs = {"spans": 2, "tags": config.tags if several else config.classes}.get(
        head, config.classes
    )
    own = width * resolved(outputs) + resolved(outputs)
    if head == "classes":
        return own + into_pooled, width * width + width * resolved(outputs)
    return own, width * resolved(outputs) * length


def _roles(config: BertConfig) -> Roles:
    return Roles(
        tied=("transform_norm",),
        attention=("attention/query",),
        blocks=("blocks",),
        branches=("attention/out", "mlp/down"),
        branch_init=-0.5,
    )


def _part(config: BertConfig, mesh: Mapping[str, int]) -> BertConfig:
    """What one device of a mesh computes: its heads, channels, blocks and tokens."""
    tensor = mesh["tensor"]
    return dataclasses.replace(
        config,
        depth=-(-config.depth // mesh["stage"]),
        heads=-(-config.heads // tensor),
        mlp_width=math.ceil(resolved(config.mlp_width) / tensor),
        vocab=math.ceil(resolved(config.vocab) / tensor),
    )


def _tells_tokens(config: Any) -> bool:
    return config.model.head in ("auto", "tokens", "passages", "several")


def _stated(config: BertConfig) -> dict[str, int] | None:
    """By its vocabulary and, where it is not left to the data, its head."""
    if config.vocab is None:
        return None
    own = {"passages": 1, "spans": 1, "classes": config.classes, "tags": config.classes}
    count = own.get(config.head)
    return {"vocab": config.vocab} | ({config.head: count} if count else {})


def _positioned(how: str) -> Callable[[Any], bool]:
    return lambda config: bool(config.model.positions == how)


_SIZES = ("heads", "head_dim", "mlp_width", "places", "classes", "tags", "pipeline_microbatches")

FAMILY = Family(
    config=BertConfig,
    module="scaling.families.bert.network:Network",
    reads=frozenset({"tokens", "positions"}),
    # By the head: of tokens, masked and table, of passages also follows; of a label, out and
    # features; tags; spans; of several, log_variances too
    gives=frozenset(
        {"masked", "table", "follows", "out", "features", "tags", "spans", "log_variances"}
    ),
    resolve=_resolve,
    scaled=_scaled,
    width_step=from_data.even_head_dim,
    roles=_roles,
    stated=_stated,
    size=size,
    exchange="scaling.families.bert.exchange:ARCHITECTURES",
    axes=frozenset({"stage"}),
    pipeline=lambda config, stages: (config.pipeline_microbatches or stages, 1),
    part=_part,
    readable=lambda config: dataclasses.replace(config, attention="plain"),
    remats=("none", "dots", "attention", "full"),
    ranges=(
        (_SIZES, AT_LEAST_ONE),
        (("norm_eps", "rope_theta"), POSITIVE),
        (("dropout", "drop_path"), DECAY),
    ),
    idle=(
        (("model.places",), _positioned("learned"), "model.positions=learned"),
        (("model.rope_theta",), _positioned("rotary"), "model.positions=rotary"),
        (("model.token_bias",), _tells_tokens, "model.head=tokens"),
    ),
)

__all__ = ["FAMILY", "BertConfig", "encoder", "rows", "size"]
