"""Parameters and FLOPs of a transformer in closed form, by kind. No jax in this file.

Tests hold these formulas to the counts of the program (`scaling/costs`) and of the compiler.
"""

from dataclasses import asdict, dataclass
from typing import Literal

from scaling.config.amounts import resolved
from scaling.config.contracts import Size
from scaling.families.transformer.fields import TransformerConfig

# How many of the keys a query is charged for. "full": all of the sequence, as a plain attention
# computes and as PaLM (Chowdhery et al. 2022, appendix B) and Chinchilla (Hoffmann et al. 2022,
# appendix F) count, or of the sliding window if that is shorter; "causal": only those it may see,
# (seq_len + 1) / 2 on average without a window.
AttentionConvention = Literal["full", "causal"]


@dataclass(frozen=True)
class Params:
    """Parameters of a transformer by kind."""

    embedding: int  # token embedding
    head: int  # output head, 0 when tied
    attention: int  # the four projections of every block
    mlp: int  # the two or three matrices of every block, 0 with experts
    router: int  # of every block, 0 without experts
    experts: int  # matrices of all routed experts
    experts_active: int  # matrices of those that a token is sent to
    shared_experts: int  # matrices of the experts that every token sees
    norms: int  # every norm's scale, and its bias where it has one
    biases: int  # of projections
    positions: int  # table of learned positions

    @property
    def total(self) -> int:
        """All parameters."""
        return self.non_embedding + self.embedding + self.positions + self.head

    @property
    def non_embedding(self) -> int:
        """Without the embeddings of tokens and positions, and without the head."""
        mlp = self.mlp + self.router + self.experts + self.shared_experts
        return self.attention + mlp + self.norms + self.biases

    @property
    def active(self) -> int:
        """Those that a token meets: of the routed experts only its own."""
        return self.total - self.experts + self.experts_active

    @property
    def active_non_embedding(self) -> int:
        """Likewise, without the token embedding and without the head."""
        return self.non_embedding - self.experts + self.experts_active


@dataclass(frozen=True)
class ForwardFlops:
    """Matmul FLOPs of one token's forward pass by kind; a multiply-add counts as 2."""

    attention: float  # the four projections
    attention_scores: float  # queries times keys, and weights times values
    mlp: float
    router: float
    experts: float  # `per_token` of them, whatever the capacity: see `flops_with_keys`
    shared_experts: float
    head: float  # logits; computed whether or not its matrix is tied

    @property
    def total(self) -> float:
        """All matmuls. Elementwise work, norms and softmax are not counted, nor is the lookup."""
        mlp = self.mlp + self.router + self.experts + self.shared_experts
        return self.attention + self.attention_scores + mlp + self.head


def transformer_params(model: TransformerConfig) -> Params:
    """Parameters of a resolved transformer, exactly."""
    width, depth, head_dim = model.width, model.depth, resolved(model.head_dim)
    embedding = resolved(model.vocab) * width
    all_heads = 2 * model.heads + 2 * resolved(model.kv_heads)  # query and output, key and value
    moe, matrices = model.moe, 3 if model.mlp == "gated" else 2
    expert = depth * width * matrices * resolved(moe.width) if moe.experts else 0
    qk_norms = 2 * head_dim if model.qk_norm else 0
    norm = 2 * width if model.norm == "layer" else width
    into = head_dim * (model.heads + 2 * resolved(model.kv_heads))
    dense = 0 if moe.experts else (matrices - 1) * resolved(model.mlp_width) + width
    biases = {"none": 0, "qkv": into, "all": into + width + dense}[model.biases]
    return Params(
        embedding=embedding,
        head=0 if model.tie_embeddings else embedding,
        attention=depth * width * head_dim * all_heads,
        mlp=0 if moe.experts else depth * width * resolved(model.mlp_width) * matrices,
        router=depth * width * moe.experts,
        experts=moe.experts * expert,
        experts_active=moe.per_token * expert,
        shared_experts=moe.shared * expert,
        norms=depth * (2 * norm + qk_norms) + norm,
        biases=depth * biases,
        positions=resolved(model.places) * width if model.positions == "learned" else 0,
    )


def transformer_flops(
    model: TransformerConfig, seq_len: int, convention: AttentionConvention = "full"
) -> ForwardFlops:
    """Forward matmul FLOPs a token of a resolved transformer, averaged over a sequence."""
    full = min(model.window or seq_len, seq_len)
    if convention == "full":
        return flops_with_keys(model, full)
    # The first `full` queries see 1, 2, ... keys, the others `full` each.
    return flops_with_keys(model, full - full * (full - 1) / (2 * seq_len))


def flops_with_keys(model: TransformerConfig, keys: float) -> ForwardFlops:
    """Forward matmul FLOPs a token when a query meets `keys` keys on average.

    A token is charged for `moe.per_token` experts. With a capacity the program computes all slots,
    capacity_factor times as many, those that stay empty too.
    """
    params = transformer_params(model)
    head_channels = model.heads * resolved(model.head_dim)
    return ForwardFlops(
        attention=2 * params.attention,
        attention_scores=model.depth * 2 * (2 * head_channels * keys),
        mlp=2 * params.mlp,
        router=2 * params.router,
        experts=2 * params.experts_active,
        shared_experts=2 * params.shared_experts,
        head=2 * params.embedding,
    )


def training_by_kind(model: TransformerConfig, seq_len: int) -> dict[str, float]:
    """Training FLOPs a token by kind of matmul: forward, and twice that backward."""
    forward = asdict(transformer_flops(model, seq_len))
    return {name: 3 * flops for name, flops in forward.items()}


def size(model: TransformerConfig, seq_len: int) -> Size:
    """Parameters and training FLOPs a token of a resolved model.

    Training is 3 times the forward pass: each matmul has two of its size in the backward pass.
    Attention is counted in full (`AttentionConvention`), whatever the program skips, so that a
    run's FLOPs do not depend on how its attention is written. Recomputation by remat is not
    counted.
    """
    params = transformer_params(model)
    forward = transformer_flops(model, seq_len)
    return Size(params.total, params.non_embedding, params.active, 3 * forward.total)


def flops_per_token(model: TransformerConfig, seq_len: int) -> dict[str, float]:
    """Training FLOPs a token by every convention in use, so that numbers of others compare.

    Of experts, only a token's own count, in every convention.

    Returns:
      kaplan: 6 x parameters without embeddings (Kaplan et al. 2020, section 2.1).
      six_n: 6 x all parameters.
      palm: six_n + 12 x depth x heads x head_dim x seq_len (PaLM, appendix B), or x window.
      chinchilla: every matmul, attention in full, the lookup as a matmul with one-hot rows, and 3
        a score for the softmax (Hoffmann et al. 2022, appendix F).
      matmul: every matmul, attention in full (`size` counts this one, and so MFU).
      matmul_causal: every matmul, attention only where a query may look.
    """
    params = transformer_params(model)
    keys = min(model.window or seq_len, seq_len)
    scores = 12 * model.depth * model.heads * resolved(model.head_dim) * keys
    matmul = transformer_flops(model, seq_len, "full").total
    lookup, softmax = 2 * params.embedding, 3 * model.depth * model.heads * keys
    return {
        "kaplan": 6 * params.active_non_embedding,
        "six_n": 6 * params.active,
        "palm": 6 * params.active + scores,
        "chinchilla": 3 * (matmul + lookup + softmax),
        "matmul": 3 * matmul,
        "matmul_causal": 3 * transformer_flops(model, seq_len, "causal").total,
    }
