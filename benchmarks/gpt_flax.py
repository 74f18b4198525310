"""A decoder-only transformer as Flax's own layers give it, for `train_step.py` to compare with.

`nn.MultiHeadDotProductAttention`, `nn.Dense` and `nn.RMSNorm` in blocks under `nn.scan`, learned
positions, SwiGLU, tied embedding, optax's AdamW: what a first version of a JAX code base looks
like.
"""

from typing import Any

import flax.linen as nn
import jax
import optax


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    heads: int
    mlp_width: int

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> tuple[jax.Array, None]:
        """[batch, length, width] -> the same."""
        attention = nn.MultiHeadDotProductAttention(
            self.heads, use_bias=False, normalize_qk=True, name="attention"
        )
        x = x + attention(nn.RMSNorm()(x), mask=mask)
        y = nn.RMSNorm()(x)
        dense = [nn.Dense(self.mlp_width, use_bias=False, name=name) for name in ("gate", "up")]
        return x + nn.Dense(x.shape[-1], use_bias=False)(nn.silu(dense[0](y)) * dense[1](y)), None


class GPT(nn.Module):
    """Tokens [batch, length] to logits [batch, length, vocab]."""

    vocab: int
    width: int
    depth: int
    heads: int
    mlp_width: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """int32 tokens to float32 logits."""
        embed = nn.Embed(self.vocab, self.width)
        positions = self.param(
            "positions", nn.initializers.normal(0.02), (tokens.shape[1], self.width)
        )
        x = embed(tokens) + positions[None]
        blocks = nn.scan(
            Block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,
            length=self.depth,
        )
        x, _ = blocks(self.heads, self.mlp_width)(x, nn.make_causal_mask(tokens))
        return embed.attend(nn.RMSNorm()(x))


def trainer(model: GPT, tokens: jax.Array, targets: jax.Array):
    """A function that makes one update and returns the loss."""
    params = jax.jit(model.init)(jax.random.key(0), tokens)["params"]
    decayed = jax.tree.map(lambda p: p.ndim > 1, params)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(1e-3, b2=0.95, weight_decay=0.1, mask=decayed)
    )

    def loss_of(params: Any) -> jax.Array:
        logits = model.apply({"params": params}, tokens)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def update(params: Any, state: Any) -> tuple[Any, Any, jax.Array]:
        loss, grads = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(grads, state, params)
        return optax.apply_updates(params, updates), state, loss

    state = [params, jax.jit(optimizer.init)(params)]

    def step() -> float:
        *state[:], loss = update(*state)
        return float(loss)

    return step
