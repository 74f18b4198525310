"""Sizes in closed form, and recipes that turn one width into a whole run.

`size` gives a resolved run's parameters and training FLOPs by formula; `resolve` asks it. `Recipe`
turns a width into depth, heads, channels, batch and learning rate, as overrides for
`config.override`, and `isoflop` and `chinchilla` are ladders of such rungs; studies in
`experiments/` call them. No jax in this file: `scaling/costs/counts.py` counts the same from the
program, and tests hold the two together.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scaling.config import LENGTHS, RunConfig, TransformerConfig, override
from scaling.config.resolve import ModelSize, resolve_transformer
from scaling.errors import ConfigError

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
    norms: int  # every norm's scale

    @property
    def total(self) -> int:
        """All parameters."""
        return self.non_embedding + self.embedding + self.head

    @property
    def non_embedding(self) -> int:
        """Without the token embedding and without the head."""
        mlp = self.mlp + self.router + self.experts + self.shared_experts
        return self.attention + mlp + self.norms

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
    return Params(
        embedding=embedding,
        head=0 if model.tie_embeddings else embedding,
        attention=depth * width * head_dim * all_heads,
        mlp=0 if moe.experts else depth * width * resolved(model.mlp_width) * matrices,
        router=depth * width * moe.experts,
        experts=moe.experts * expert,
        experts_active=moe.per_token * expert,
        shared_experts=moe.shared * expert,
        norms=depth * (2 * width + qk_norms) + width,
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


def size(config: RunConfig) -> ModelSize:
    """Parameters and training FLOPs a token of a run whose model is resolved.

    Training is 3 times the forward pass: each matmul has two of its size in the backward pass.
    Attention is counted in full (`AttentionConvention`), whatever the program skips, so that a
    run's FLOPs do not depend on how its attention is written. Recomputation by remat is not
    counted.
    """
    params = transformer_params(config.model)
    forward = transformer_flops(config.model, config.data.seq_len)
    return ModelSize(params.total, params.non_embedding, params.active, 3 * forward.total)


def flops_per_token(config: RunConfig) -> dict[str, float]:
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
    model, seq_len = config.model, config.data.seq_len
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


def resolved(value: int | None) -> int:
    """A field that `scaling.config.resolve` fills in, as the int it then is."""
    if value is None:
        raise ValueError("the model config is not resolved; call studies.study.resolve first")
    return value


@dataclass(frozen=True)
class RunCost:
    """What a resolved run is and costs; in its config.json under "size"."""

    params: int  # all
    params_non_embedding: int  # see ModelSize
    params_active: int  # see ModelSize
    flops_per_token: float  # of training
    tokens: int  # of training, repeats counted
    flops: float  # of training


def cost(config: RunConfig) -> RunCost:
    """Parameters, tokens and FLOPs of a whole resolved run, in closed form."""
    counts = size(config)
    tokens = resolved(config.train.steps) * config.train.batch_size * config.data.seq_len
    return RunCost(
        params=counts.params,
        params_non_embedding=counts.params_non_embedding,
        params_active=counts.params_active,
        flops_per_token=counts.flops_per_token,
        tokens=tokens,
        flops=tokens * counts.flops_per_token,
    )


# ---- recipes and ladders

Override = dict[str, Any]  # dotted config field -> value, for `config.override`


@dataclass(frozen=True)
class Recipe:
    """One width in, a whole run out: how everything else grows with the model."""

    head_dim: int = 32  # wanted channels a head; the nearest even divisor of the width is taken
    aspect: float = 32.0  # width / depth
    min_depth: int = 2
    base_width: int = 128  # the width at which lr and batch_size below hold
    lr: float = 3e-3  # peak learning rate at base_width
    lr_exponent: float = -0.5  # learning rate ~ width ^ exponent
    batch_size: int = 32  # windows a step at base_width
    batch_exponent: float = 0.0  # windows ~ width ^ exponent, rounded to a power of 2; 0: constant
    tokens_per_param: float = 20.0  # Hoffmann et al. 2022 (Chinchilla), table 3: about 20

    def rung(self, width: int, base: RunConfig | None = None) -> Override:
        """The overrides of the run of this width, of length `tokens_per_param`.

        Channels of MLPs and experts, and the query heads that share a key head, are in proportion
        as in `base`; None: as the model's defaults.

        Raises ConfigError for a width that no even head_dim divides.
        """
        return self._shape(width, base) | _length("tokens_per_param", self.tokens_per_param)

    def _shape(self, width: int, base: RunConfig | None) -> Override:
        if width < 2 or width % 2:
            raise ConfigError(f"model.width={width} must be even and positive: heads need pairs")
        head_dims = [k for k in range(2, width + 1, 2) if width % k == 0]
        head_dim = min(head_dims, key=lambda k: abs(math.log(k / self.head_dim)))
        scale = width / self.base_width
        batch_size = self.batch_size
        if self.batch_exponent:
            batch_size = 2 ** max(0, round(math.log2(batch_size * scale**self.batch_exponent)))
        return {
            "model.width": width,
            "model.depth": max(self.min_depth, round(width / self.aspect)),
            "model.heads": width // head_dim,
            "model.head_dim": head_dim,
            **_proportions((base or RunConfig()).model, width, width // head_dim),
            "optim.peak_lr": self.lr * scale**self.lr_exponent,
            "train.batch_size": batch_size,
        }


def _proportions(base: TransformerConfig, width: int, heads: int) -> Override:
    """What a model of this width and these query heads has in the base's proportions. What the
    base leaves to `resolve` stays so.
    """

    def channels(of_base: int | None) -> int | None:
        if of_base is None:
            return None
        unit = 16 if base.mlp == "gated" else 1  # the defaults are rounded in the same way
        return -(-of_base * width // (base.width * unit)) * unit

    kv_heads = None
    if base.kv_heads is not None:
        wanted = heads * base.kv_heads / base.heads
        divisors = [n for n in range(1, heads + 1) if heads % n == 0]
        kv_heads = min(divisors, key=lambda n: abs(math.log(n / wanted)))
    return {
        "model.kv_heads": kv_heads,
        "model.mlp_width": channels(base.mlp_width),
        "model.moe.width": channels(base.moe.width),
    }


def isoflop(
    recipe: Recipe,
    widths: Sequence[int],
    budgets: Sequence[float],
    base: RunConfig | None = None,
) -> list[Override]:
    """Every width at every budget of training FLOPs: models of all sizes for the same money
    (Hoffmann et al. 2022, approach 2). The budgets vary slowest. `base` as in `Recipe.rung`.
    """
    return [
        recipe._shape(width, base) | _length("flops", float(budget))
        for budget in budgets
        for width in widths
    ]


def chinchilla(
    recipe: Recipe, base: RunConfig, vocab: int, budgets: Sequence[float]
) -> list[Override]:
    """For every budget of training FLOPs the width, a multiple of the recipe's head_dim, that
    spends it at nearest to `tokens_per_param` tokens a parameter. `base` gives the proportions
    (`Recipe.rung`) and the other fields.

    Raises ConfigError for a budget below that of the smallest such width.
    """
    overrides = []
    for budget in budgets:
        if budget < _compute(recipe, base, vocab, recipe.head_dim) / 2:
            raise ConfigError(
                f"a budget of {budget:.2g} FLOPs is too small for a model of width "
                f"{recipe.head_dim}; raise it, or lower the recipe's head_dim"
            )
        below = recipe.head_dim
        while _compute(recipe, base, vocab, below + recipe.head_dim) <= budget:
            below += recipe.head_dim
        width = min(
            (below, below + recipe.head_dim),
            key=lambda w: abs(math.log(_compute(recipe, base, vocab, w) / budget)),
        )
        overrides.append(recipe._shape(width, base) | _length("flops", float(budget)))
    return overrides


def _compute(recipe: Recipe, base: RunConfig, vocab: int, width: int) -> float:
    """Training FLOPs of the recipe's rung."""
    config = override(base, recipe.rung(width, base))
    counts = size(dataclasses.replace(config, model=resolve_transformer(config.model, vocab)))
    return counts.flops_per_token * counts.params * recipe.tokens_per_param


def _length(name: str, amount: float) -> Override:
    """One training length, and none of the others that the base config may have."""
    return {f"train.{other}": amount if other == name else None for other in LENGTHS}
