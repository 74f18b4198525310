"""What a loss needs of the logits, without the logits: per token log Z, the target's, the best.

Takes the hidden states behind the final norm and the output matrix [V, D]; the logits exist for a
chunk of tokens at a time, and once more in the backward pass, so that memory does not grow with
tokens x vocabulary. `rows.py` calls `cross_entropy`; generation and tests call `logits`.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from scaling.objectives.objective import Array

# Tokens x vocabulary of one chunk: 512 MiB of float32 logits. Small vocabularies stay one piece.
# Fewer tokens at a time would leave the matmuls too thin beside the traffic of the head's gradient.
_CHUNK_LOGITS = 2**27
_LEAST_TOKENS = 1024
# In the place of the weight of a token that is not in the source, so that it has a logarithm.
_LEAST = 1e-30


@flax.struct.dataclass
class Scores:
    """Of every token, [B, L]; float32."""

    log_z: Array  # log of the softmax normaliser
    target: Array  # logit of the target
    correct: Array  # bool: no logit is larger than the target's


@flax.struct.dataclass
class Pointed:
    """Where a model that also copies points: tokens of a source that may be written as they are."""

    source: Array  # int32 [B, S]
    weights: Array  # float32 [B, L, S], of the tokens of the source; their sum is 1
    gate: Array  # float32 [B, L], logit of the share that the vocabulary has


def logits(outputs: Mapping[str, Any]) -> Array:
    """float32 [B, L, V] of a model's outputs `hidden`, `head` and, if it has them, `softcap` and
    `pointed`.
    """
    logits_BxLxV = _capped(_product(outputs["hidden"], outputs["head"]), outputs.get("softcap"))
    if "pointed" in outputs:
        logits_BxLxV = mixed(logits_BxLxV, outputs["pointed"])
    return nn.with_logical_constraint(logits_BxLxV, ("batch", "seq", "act_vocab"))


def mixed(logits_BxLxV: Array, pointed: Pointed) -> Array:
    """[B, L, V], whose softmax is g softmax(logits) + (1 - g) times the weight of all places of the
    source that have the token (See et al. 2017, arXiv 1704.04368, equation 9), g the gate's share;
    its normaliser is that of the logits.
    """
    log_z_BxLx1 = jax.nn.logsumexp(logits_BxLxV, axis=-1, keepdims=True)
    one_hot_BxSxV = jax.nn.one_hot(pointed.source, logits_BxLxV.shape[-1])
    copied_BxLxV = jnp.einsum("BLS,BSV->BLV", pointed.weights, one_hot_BxSxV)
    gate_BxLx1 = pointed.gate[..., None]
    own_BxLxV = jax.nn.log_sigmoid(gate_BxLx1) + logits_BxLxV - log_z_BxLx1
    copied_BxLxV = jax.nn.log_sigmoid(-gate_BxLx1) + jnp.log(jnp.maximum(copied_BxLxV, _LEAST))
    return log_z_BxLx1 + jnp.logaddexp(own_BxLxV, copied_BxLxV)


def cross_entropy(
    hidden_BxLxD: Array,
    head_VxD: Array,
    targets_BxL: Array,
    softcap: float | None = None,
    chunk: int | None = None,
) -> Scores:
    """The scores of every token; differentiable by `hidden` and `head`, through log Z and target.

    The logits `softcap * tanh(hidden @ head.T / softcap)` are float32 sums of products in the
    dtype of `hidden`. The gradient of `head` is summed in float32: on each device over its own
    tokens, and over devices once, after the last chunk.

    Args:
      head_VxD: float32.
      chunk: tokens a device whose logits exist at a time (`pieces`); None: by the vocabulary.
    """
    batch, length = targets_BxL.shape
    rows, columns = _ways("batch", batch), _ways("seq", length)
    count = pieces(batch // rows, length // columns, head_VxD.shape[0], chunk)
    if count == 1:
        return _scores(_capped(_product(hidden_BxLxD, head_VxD), softcap), targets_BxL)
    cut = functools.partial(_cut, rows=rows, columns=columns, count=count)
    hidden, targets = cut(hidden_BxLxD), cut(targets_BxL)
    scores = _many_pieces(hidden, head_VxD, targets, softcap)
    return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 3).reshape(batch, length), scores)


def of_logits(logits_BxLxV: Array, targets_BxL: Array) -> Scores:
    """The scores of logits that are there."""
    return _scores(logits_BxLxV, targets_BxL)


def pieces(rows: int, length: int, vocab: int, chunk: int | None) -> int:
    """How many pieces `length` is cut into, so that one piece of `rows` rows is `chunk` tokens at
    most; at most `length`.

    `chunk` None: as many tokens as have 2^27 logits, and 1,024 at least.
    """
    chunk = chunk or max(_CHUNK_LOGITS // vocab, _LEAST_TOKENS)
    divisors = (n for n in range(1, length + 1) if length % n == 0)
    return next((n for n in divisors if rows * (length // n) <= chunk), length)


def _ways(axis: str, size: int) -> int:
    """Devices that the logical axis is spread over, or 1 if they do not divide `size`."""
    mesh = jax.sharding.get_abstract_mesh()
    spec = nn.logical_to_mesh_axes((axis,))
    names = spec[0] if spec else None
    if mesh.empty or names is None:
        return 1
    names = (names,) if isinstance(names, str) else names
    ways = math.prod(mesh.shape[name] for name in names)
    return ways if size % ways == 0 else 1


def _cut(x_BxL: Array, rows: int, columns: int, count: int) -> Array:
    """[B, L, ...] -> [N, R, B/R, S, L/S/N, ...] for R x S devices: each has a part of each of the N
    pieces, and keeps its own tokens.
    """
    batch, length, *rest = x_BxL.shape
    shape = (rows, batch // rows, columns, count, length // columns // count, *rest)
    return _constrain(jnp.moveaxis(x_BxL.reshape(shape), 3, 0), 1)


def _constrain(x: Array, before: int) -> Array:
    """Names the axes of a piece; `before`: axes that stand before those of the devices."""
    names = (*[None] * before, "batch", None, "seq")
    return nn.with_logical_constraint(x, (*names, *[None] * (x.ndim - len(names))))


def _whole(head_VxD: Array, like: Array) -> Array:
    """The matrix in the compute dtype, gathered along the width."""
    return nn.with_logical_constraint(head_VxD.astype(like.dtype), ("act_vocab", "act_embed"))


# ---- all tokens at once


@jax.custom_vjp
def _product(hidden_BxLxD: Array, head_VxD: Array) -> Array:
    """hidden @ head.T, float32 [B, L, V]. Its backward pass, too, multiplies in the dtype of
    `hidden` and sums in float32; left to jax, the float32 gradient would make both operands that.
    """
    return _dot("BLD,VD->BLV", hidden_BxLxD, _whole(head_VxD, hidden_BxLxD))


def _product_forward(hidden_BxLxD: Array, head_VxD: Array) -> tuple[Array, Any]:
    return _product(hidden_BxLxD, head_VxD), (hidden_BxLxD, head_VxD)


def _product_backward(kept: tuple[Array, Array], of_BxLxV: Array) -> tuple[Array, Array]:
    hidden_BxLxD, head_VxD = kept
    of_BxLxV = of_BxLxV.astype(hidden_BxLxD.dtype)
    of_hidden = _dot("BLV,VD->BLD", of_BxLxV, _whole(head_VxD, hidden_BxLxD))
    return of_hidden.astype(hidden_BxLxD.dtype), _dot("BLV,BLD->VD", of_BxLxV, hidden_BxLxD)


_product.defvjp(_product_forward, _product_backward)


def _dot(spec: str, a: Array, b: Array) -> Array:
    return jnp.einsum(spec, a, b, preferred_element_type=jnp.float32)


def _capped(product: Array, softcap: float | None) -> Array:
    return product if softcap is None else softcap * jnp.tanh(product / softcap)


def _scores(logits: Array, targets: Array) -> Scores:
    log_z = jax.nn.logsumexp(logits, axis=-1)
    target = _at(logits, targets)
    # The target wins if no logit is larger; argmax would read the logits a second time.
    return Scores(log_z, target, target >= logits.max(axis=-1))


def _at(logits: Array, targets: Array) -> Array:
    """The logit of each target."""
    if not jax.sharding.get_abstract_mesh().manual_axes:
        return jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    # In a function that is mapped over some mesh axes (`train/step.py`) the partitioner fails to
    # look up along an axis that another one cuts. This sum has one term.
    number = jax.lax.broadcasted_iota(targets.dtype, logits.shape, logits.ndim - 1)
    return jnp.where(number == targets[..., None], logits, 0).sum(axis=-1)


# ---- piece after piece: the backward pass computes the logits of each again


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _many_pieces(
    hidden_N: Array, head_VxD: Array, targets_N: Array, softcap: float | None
) -> Scores:
    """`hidden_N` [N, R, B, S, L, D] and `targets_N` [N, R, B, S, L] from `_cut`."""
    whole_VxD = _whole(head_VxD, hidden_N)

    def body(_: None, piece: tuple[Array, Array]) -> tuple[None, Scores]:
        hidden, targets = piece
        logits = _capped(_dot("RBSLD,VD->RBSLV", hidden, whole_VxD), softcap)
        return None, _scores(logits, targets)

    return jax.lax.scan(body, None, (hidden_N, targets_N))[1]


def _many_pieces_forward(
    hidden_N: Array, head_VxD: Array, targets_N: Array, softcap: float | None
) -> tuple[Scores, Any]:
    scores = _many_pieces(hidden_N, head_VxD, targets_N, softcap)
    return scores, (hidden_N, head_VxD, targets_N, scores.log_z)


def _many_pieces_backward(
    softcap: float | None, kept: Any, of_N: Scores
) -> tuple[Array, Array, None]:
    hidden_N, head_VxD, targets_N, log_z_N = kept
    whole_VxD = _whole(head_VxD, hidden_N)

    def own(sum_RxSxVxD: Array) -> Array:
        """A matrix for each device, of its own tokens: a single one would be summed over devices in
        every turn of the loop.
        """
        return nn.with_logical_constraint(sum_RxSxVxD, ("batch", "seq", "act_vocab", None))

    def body(sum_RxSxVxD: Array, piece: Any) -> tuple[Array, Array]:
        hidden, targets, log_z, of = piece
        logits = _capped(_dot("RBSLD,VD->RBSLV", hidden, whole_VxD), softcap)
        tokens = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
        gradient = of.log_z[..., None] * jnp.exp(logits - log_z[..., None])
        gradient += jnp.where(tokens == targets[..., None], of.target[..., None], 0.0)
        if softcap is not None:
            gradient *= 1 - (logits / softcap) ** 2  # the derivative of `_capped`
        gradient = gradient.astype(hidden.dtype)
        of_hidden = _dot("RBSLV,VD->RBSLD", gradient, whole_VxD).astype(hidden.dtype)
        return own(sum_RxSxVxD + _dot("RBSLV,RBSLD->RSVD", gradient, hidden)), of_hidden

    _, rows, _, columns = hidden_N.shape[:4]
    zeros = own(jnp.zeros((rows, columns, *head_VxD.shape), jnp.float32))
    sum_RxSxVxD, of_hidden_N = jax.lax.scan(body, zeros, (hidden_N, targets_N, log_z_N, of_N))
    return of_hidden_N, sum_RxSxVxD.sum(axis=(0, 1)), None


_many_pieces.defvjp(_many_pieces_forward, _many_pieces_backward)
