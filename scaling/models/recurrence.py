"""The recurrence of a long short-term memory over time, and its layer.

The product with the input is one matmul over the whole sequence, made before the loop; what is left
to the loop is the product with the state (Appleyard et al. 2016, Optimizing RNNs on GPUs, section
3.1). Shapes as in `layers.py`, time first: L length, B batch, H hidden units, and 4 the gates, in
the order input, forget, candidate, output. Called by the families that
read one place after the other.
"""

import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.models.dropout import Keys, dropped
from scaling.models.layers import Array, Projection, RMSNorm, parameter, truncated_normal

State = tuple[Array, Array]  # hidden state [B, H], and cell, float32 [B, H]


class LSTM(nn.Module):
    """A layer of long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of
    Gers et al. 2000) over a sequence, [L, B, D] -> [L, B, H]; it begins at zero.

    The bias of the forget gate begins at `forget_bias` (Jozefowicz et al. 2015, section 2.2), the
    others at 0, and the matrices with std 1 / sqrt(fan-in). The cell is float32 in every dtype.
    """

    width: int  # hidden units
    forget_bias: float
    dtype: Any
    unroll: int = 1  # steps of time in a turn of the loop

    @nn.compact
    def __call__(self, x_LxBxD: Array, keep_LxB: Array, state: State | None = None) -> Any:
        """
        Args:
          keep_LxB: bool; where it is False the state before the step is zero.
          state: from `zero_state` or from the call before; the sequence continues it. The result is
            then (the hidden states, the state behind them).
        """
        shape, axes = (4, self.width), ("gates", "mlp")
        into = Projection(
            "LBD,DGH->LBGH", (x_LxBxD.shape[-1], *shape), ("embed", *axes), self.dtype, name="input"
        )
        init = truncated_normal(1 / math.sqrt(self.width))
        w_Hx4xH = parameter(self, "state", init, (self.width, *shape), ("embed", *axes))
        begin = jnp.zeros(shape).at[1].set(self.forget_bias)
        bias_4xH = parameter(self, "bias", lambda *_: begin, shape, axes)
        z_LxBx4xH = into(x_LxBxD) + bias_4xH[None, None].astype(self.dtype)
        # Along the length it is whole: the loop visits one place after the other.
        z_LxBx4xH = nn.with_logical_constraint(z_LxBx4xH, (None, "batch", None, "act_mlp"))
        if state is None:
            return recurrence(z_LxBx4xH, w_Hx4xH, keep_LxB, self.unroll)
        h_LxBxH, (_, _, _, c_LxBxH, _) = _forward(z_LxBx4xH, w_Hx4xH, keep_LxB, self.unroll, state)
        return h_LxBxH, (h_LxBxH[-1], c_LxBxH[-1])


class ResidualLSTM(nn.Module):
    """x + lstm(norm(x)): residual connections between recurrent layers as in Wu et al. 2016
    (section 3.1), and the norm before the layer as in the transformer. What is dropped is what a
    layer gives, never its state (Zaremba et al. 2014, arXiv 1409.2329, section 3.2).
    """

    config: Any  # with width, forget_bias, norm_eps, dropout, dtype, unroll

    @nn.compact
    def __call__(
        self,
        x_LxBxD: Array,
        keep_LxB: Array,
        dropout: Keys | None = None,
        state: State | None = None,
    ) -> Any:
        c = self.config
        h_LxBxD = RMSNorm(c.norm_eps, c.dtype, name="norm")(x_LxBxD)
        lstm = LSTM(c.width, c.forget_bias, c.dtype, c.unroll, name="lstm")
        if state is not None:
            y_LxBxD, state = lstm(h_LxBxD, keep_LxB, state)
            return x_LxBxD + y_LxBxD, state
        y_LxBxD = dropped(lstm(h_LxBxD, keep_LxB), dropout, c.dropout, 0, rows=1)
        return nn.with_logical_constraint(x_LxBxD + y_LxBxD, (None, "batch", "act_embed"))


def zero_state(batch: int, width: int, dtype: Any) -> State:
    """What a sequence begins with."""
    return jnp.zeros((batch, width), dtype), jnp.zeros((batch, width), jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def recurrence(z_LxBx4xH: Array, w_Hx4xH: Array, keep_LxB: Array, unroll: int = 1) -> Array:
    """The hidden states, [L, B, H], in the dtype of z.

    The derivative is by hand for its product of states and gates, the gradient of w: it is one
    matmul over all steps; left to JAX, every step adds one to an array of w's size.

    Args:
      z_LxBx4xH: what the input gives the gates.
      w_Hx4xH: what the last hidden state is multiplied by; float32.
      keep_LxB: bool; where it is False the state before the step is zero.
    """
    return _forward(z_LxBx4xH, w_Hx4xH, keep_LxB, unroll)[0]


def _forward(
    z_LxBx4xH: Array, w_Hx4xH: Array, keep_LxB: Array, unroll: int, start: State | None = None
) -> Any:
    dtype = z_LxBx4xH.dtype
    w = w_Hx4xH.astype(dtype)

    def step(state: tuple[Array, Array], now: tuple[Array, Array]) -> Any:
        (h_BxH, c_BxH), (z_Bx4xH, keep_B) = state, now
        h_BxH, c_BxH = (jnp.where(keep_B[:, None], s, 0) for s in (h_BxH, c_BxH))
        z_Bx4xH = z_Bx4xH.astype(jnp.float32) + _dot("BH,HGK->BGK", h_BxH, w)
        i, f, o = (jax.nn.sigmoid(z_Bx4xH[:, gate]) for gate in (0, 1, 3))
        g = jnp.tanh(z_Bx4xH[:, 2])
        c_BxH = f * c_BxH + i * g
        h_BxH = (o * jnp.tanh(c_BxH)).astype(dtype)
        gates_Bx4xH = jnp.stack([i, f, g, o], axis=1).astype(dtype)
        return (h_BxH, c_BxH), (h_BxH, c_BxH, gates_Bx4xH)

    batch, hidden = z_LxBx4xH.shape[1], z_LxBx4xH.shape[3]
    start = zero_state(batch, hidden, dtype) if start is None else start
    _, (h, c, gates) = jax.lax.scan(step, start, (z_LxBx4xH, keep_LxB), unroll=unroll)
    return h, (w_Hx4xH, keep_LxB, h, c, gates)


def _backward(unroll: int, kept: Any, dh_LxBxH: Array) -> Any:
    w_Hx4xH, keep_LxB, h_LxBxH, c_LxBxH, gates_LxBx4xH = kept
    dtype = dh_LxBxH.dtype
    w = w_Hx4xH.astype(dtype)

    def before(x_LxBxH: Array) -> Array:
        """The state that a step begins with."""
        return jnp.where(keep_LxB[:, :, None], jnp.roll(x_LxBxH, 1, axis=0).at[0].set(0), 0)

    def step(later: tuple[Array, Array], now: Any) -> Any:
        (dh, dc), (dh_here, gates, c, c_before, keep_B) = later, now
        i, f, g, o = (gates[:, gate].astype(jnp.float32) for gate in range(4))
        dh, tanh_c = dh + dh_here.astype(jnp.float32), jnp.tanh(c)
        dc = dc + dh * o * (1 - tanh_c**2)
        dz = [dc * g * i * (1 - i), dc * c_before * f * (1 - f), dc * i * (1 - g**2)]
        dz_Bx4xH = jnp.stack([*dz, dh * tanh_c * o * (1 - o)], axis=1).astype(dtype)
        earlier = _dot("BGK,HGK->BH", dz_Bx4xH, w), dc * f
        return tuple(jnp.where(keep_B[:, None], d, 0) for d in earlier), dz_Bx4xH

    zeros = jnp.zeros(c_LxBxH.shape[1:], jnp.float32)
    over = dh_LxBxH, gates_LxBx4xH, c_LxBxH, before(c_LxBxH), keep_LxB
    _, dz_LxBx4xH = jax.lax.scan(step, (zeros, zeros), over, reverse=True, unroll=unroll)
    dw_Hx4xH = _dot("LBH,LBGK->HGK", before(h_LxBxH), dz_LxBx4xH)
    return dz_LxBx4xH, dw_Hx4xH, None


recurrence.defvjp(_forward, _backward)


def _dot(spec: str, a: Array, b: Array) -> Array:
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)
