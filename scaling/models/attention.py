"""Self-attention of a block, and `attention`, which picks the form for platform and shape.

Takes the block's input with the document number of every position; called by `blocks.py`. Three
forms compute the same: cuDNN's kernel on a GPU, splash on a TPU (`kernels.py`), and blocks in plain
JAX everywhere (`flash.py`, and one for short lengths here). Shapes as in `layers.py`.
"""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from scaling.config.amounts import resolved
from scaling.errors import ConfigError
from scaling.models import flash, kernels, prefix
from scaling.models.distance import with_distance
from scaling.models.fields import BlockConfig
from scaling.models.flash import Keys, Piece
from scaling.models.layers import Array, Projection, RMSNorm, rotate
from scaling.models.logits import rms_of_logits
from scaling.models.observed import tell
from scaling.models.placement import Placement, placement
from scaling.models.remat import policy

Form = Literal["auto", "blockwise", "cudnn", "splash"]

# Up to this length the blockwise form is a few static blocks of queries with plain derivatives.
SHORT = 256
# Slots of a block of the long form. Measured on a CPU, forward and backward, at lengths of 512 to
# 2048: 64 and 128 slots take 0.6 to 0.8 of the time of 256 and 512, whose scores leave the cache.
CPU_BLOCK = 128
BLOCK = 512


class Attention(nn.Module):
    """Self-attention with positions as the config says; with a cache, over the slots written so
    far.
    """

    config: BlockConfig
    out_scale: float

    @nn.compact
    def __call__(
        self, x_BxLxD: Array, context: Mapping[str, Any], cache: Mapping[str, Array] | None
    ) -> tuple[Array, Any]:
        c, dtype = self.config, jnp.dtype(self.config.dtype)
        kv_heads, head_dim = resolved(c.kv_heads), resolved(c.head_dim)

        def into(name: str, heads: int, axis: str) -> Array:
            shape, axes = (c.width, heads, head_dim), ("embed", axis, "head_dim")
            fields = (shape, axes, dtype, 1.0, c.matmul, c.biases != "none")
            y = Projection("BLD,DHK->BLHK", *fields, name=name)(x_BxLxD)
            y = jnp.swapaxes(y, 1, 2)
            if c.qk_norm and name != "value":
                y = RMSNorm(c.norm_eps, dtype, name=f"{name}_norm")(y)
            if name != "value" and c.positions == "rope":
                y = rotate(y, context["rope"])
            return nn.with_logical_constraint(y, ("batch", f"act_{axis}", "seq", None))

        q_BxHxLxK = into("query", c.heads, "heads")
        k_BxGxSxK = into("key", kv_heads, "kv_heads")
        v_BxGxSxK = into("value", kv_heads, "kv_heads")
        segments_BxL, biased = context["segment_ids"], c.positions == "alibi"
        own = prefix.of_layer(self)
        if cache is None:
            ring = c.context_parallel == "ring"
            logits = functools.partial(
                rms_of_logits, scaled(q_BxHxLxK), k_BxGxSxK, segments_BxL, c.window, c.causal
            )
            tell("logits", "attention", logits)
            form = c.attention
            if biased:
                form = "blockwise"  # the kernels take no such numbers of channels
                q_BxHxLxK, k_BxGxSxK, v_BxGxSxK = with_distance(q_BxHxLxK, k_BxGxSxK, v_BxGxSxK)
            whole = q_BxHxLxK, k_BxGxSxK, v_BxGxSxK, segments_BxL
            seen = functools.partial(weights, *whole[:2], segments_BxL, c.window, c.causal, own)
            tell("weights", "attention", seen)
            if own is None:
                out_BxHxLxK = attention(*whole, c.window, form, ring, c.causal)
            else:
                out_BxHxLxK = behind(own, *whole, c.window, c.causal)
        else:
            start, put = context["start"], jax.lax.dynamic_update_slice_in_dim
            k_BxGxSxK = put(cache["key"], k_BxGxSxK.astype(cache["key"].dtype), start, axis=2)
            v_BxGxSxK = put(cache["value"], v_BxGxSxK.astype(cache["value"].dtype), start, axis=2)
            cache = {"key": k_BxGxSxK, "value": v_BxGxSxK}
            if biased:
                q_BxHxLxK, k_BxGxSxK, v_BxGxSxK = with_distance(q_BxHxLxK, k_BxGxSxK, v_BxGxSxK)
            piece = Piece(k_BxGxSxK, v_BxGxSxK, context["key_segments"])
            out_BxHxLxK = attend(scaled(q_BxHxLxK), segments_BxL, piece, start, c.window, own)
        if biased:
            out_BxHxLxK = out_BxHxLxK[..., :head_dim]
        shape, axes = (c.heads, head_dim, c.width), ("heads", "head_dim", "embed")
        fields = (shape, axes, dtype, self.out_scale, c.matmul, c.biases == "all")
        out = Projection("BLHK,HKD->BLD", *fields, name="out")
        return out(jnp.swapaxes(out_BxHxLxK, 1, 2)), cache


def attention(
    q_BxHxLxK: Array,
    k_BxGxLxK: Array,
    v_BxGxLxK: Array,
    segments_BxL: Array | None,
    window: int | None = None,
    form: Form = "auto",
    ring: bool = False,
    causal: bool = True,
) -> Array:
    """Softmax attention inside segments, [B, H, L, K] (Vaswani et al. 2017, section 3.2.1).

    A query sees the `window` latest slots up to its own (None: all) that have its segment number
    (None: all have the same). Scores and softmax are float32; the output has the dtype of `v`.

    Runs on the context's mesh: batch and heads, and the length along mesh.seq, stay where they are;
    keys are gathered from the other devices, or travel round the `ring`.

    Not `causal`: every query sees all slots of its segment; there is then no window, and the length
    is whole. Without cuDNN all scores exist at once.

    Raises:
      ConfigError: `form` names a kernel that the platform does not have or that cannot do this.
    """
    length, head_dim = q_BxHxLxK.shape[2:]
    place = placement(q_BxHxLxK, k_BxGxLxK)
    platform = _platform()
    cannot = {
        "cudnn": kernels.cudnn_cannot(
            v_BxGxLxK.dtype, head_dim, length, segments_BxL is not None, place.shards
        ),
        "splash": kernels.splash_cannot(length, place.shards),
    }
    arrays = (scaled(q_BxHxLxK), k_BxGxLxK, v_BxGxLxK, segments_BxL)
    if not causal:
        if form == "auto" and platform == "gpu" and not cannot["cudnn"]:
            return checkpoint_name(cudnn(*arrays, window, place, causal), "attention")
        seen = None if segments_BxL is None else flash.together(segments_BxL, segments_BxL)
        return checkpoint_name(weighed(arrays[0], Piece(*arrays[1:]), seen), "attention")
    form = choose(form, platform, cannot, ring and place.shards > 1)
    if form == "cudnn":
        return checkpoint_name(cudnn(*arrays, window, place), "attention")
    if form == "splash":
        return splash(*arrays, window, place)
    if length <= SHORT and place.shards == 1:
        return checkpoint_name(short(*arrays, window), "attention")
    block = CPU_BLOCK if platform == "cpu" else BLOCK
    return long(*arrays, Keys(window, block, place.seq, place.shards, ring), place)


# ---- the choice


def _platform() -> str:
    """What the program is compiled for: a mesh may be of devices that are not here."""
    device = getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)
    return jax.default_backend() if device is None else device.platform


_PLATFORM_OF = {"cudnn": "gpu", "splash": "tpu"}


def choose(form: Form, platform: str, cannot: Mapping[str, str], ring: bool) -> Form:
    """The form that runs; see `attention`."""
    if form == "auto":
        for kernel in ("cudnn", "splash"):
            travels = kernel == "splash" and ring
            if platform == _PLATFORM_OF[kernel] and not cannot[kernel] and not travels:
                return kernel
        return "blockwise"
    if form == "blockwise":
        return form
    why = cannot[form]
    if platform != _PLATFORM_OF[form]:
        why = f"it needs a {_PLATFORM_OF[form].upper()}, and this program is for a {platform}"
    elif form == "splash" and ring:
        why = "its keys cannot travel, set model.context_parallel=gather"
    if why:
        raise ConfigError(f"model.attention={form} cannot run here: {why}; or set it to auto")
    return form


# ---- the forms


def scaled(q_BxHxLxK: Array) -> Array:
    """Queries so that a score has variance 1 where queries and keys do."""
    return q_BxHxLxK * q_BxHxLxK.shape[-1] ** -0.5


def cudnn(
    q: Array,
    k: Array,
    v: Array,
    segments: Array | None,
    window: int | None,
    place: Placement,
    causal: bool = True,
) -> Array:
    """cuDNN's kernel."""
    local = functools.partial(kernels.cudnn, window=window, causal=causal)
    takes = (place.by_head, place.by_head, place.by_head, place.by_row)
    return place.run(local, takes, place.by_head, q, k, v, segments)


def splash(
    q: Array,
    k: Array,
    v: Array,
    segments: Array | None,
    window: int | None,
    place: Placement,
    interpret: bool = False,
) -> Array:
    """The Pallas kernel; along mesh.seq every device gathers all keys."""
    kernel = kernels.splash_kernel(q.shape[2], window, place.shards, interpret)

    def local(kernel: Any, q: Array, k: Array, v: Array, segments: Array | None) -> Array:
        all_keys = flash.gathered(Piece(k, v, segments), place.seq)
        return kernels.splash(kernel, q, segments, all_keys)

    if place.seq is not None:  # the backward pass gathers again: all keys are too much to keep
        local = jax.checkpoint(local, policy=policy("attention"))
    mesh = jax.sharding.get_abstract_mesh()
    # The same mesh without a surrounding shard_map's hold on it, in which a spec has no shape.
    free = AbstractMesh(mesh.axis_sizes, mesh.axis_names)
    lists = kernel.manual_sharding_spec(NamedSharding(free, PartitionSpec(None, place.seq)))
    takes = (lists, place.by_head, place.by_head, place.by_head, place.by_row)
    return place.run(local, takes, place.by_head, kernel, q, k, v, segments)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def long(
    q: Array, k: Array, v: Array, segments: Array | None, keys: Keys, place: Placement
) -> Array:
    """Blocks whose scores are computed again in the backward pass.

    Both passes are placed by hand: the derivative of a shard_map would be right, but sums over mesh
    axes that hold copies.
    """
    return _long_forward(q, k, v, segments, keys, place)[0]


def _long_forward(
    q: Array, k: Array, v: Array, segments: Array | None, keys: Keys, place: Placement
) -> Any:
    def local(q: Array, k: Array, v: Array, segments: Array | None) -> Any:
        return flash.forward(q, Piece(k, v, segments), keys)

    head, row = place.by_head, place.by_row
    given = place.run(local, (head, head, head, row), (head, head), q, k, v, segments)
    # Kept by model.remat="attention"; so that this pass is not computed again.
    out, log_sum = checkpoint_name(given, "attention")
    return out, (q, k, v, segments, out, log_sum)


def _long_backward(keys: Keys, place: Placement, kept: Any, grad: Array) -> Any:
    def local(
        q: Array, k: Array, v: Array, segments: Array | None, out: Array, log_sum: Array, g: Array
    ) -> Any:
        return flash.backward(q, Piece(k, v, segments), keys, out, log_sum, g)

    head, row = place.by_head, place.by_row
    takes = (head, head, head, row, head, head, head)
    return *place.run(local, takes, (head, head, head), *kept, grad), None


long.defvjp(_long_forward, _long_backward)


def query_blocks(length: int) -> int:
    """How many blocks the short form cuts `length` queries into: as many as divide it, up to 8,
    with at least 64 queries each.

    Measured on a CPU in float32, forward and backward: 256 queries in 4 blocks take 0.3 of the time
    of one, 128 in 2 blocks 0.65; smaller blocks lose it again.
    """
    return max(n for n in (1, 2, 4, 8) if length % n == 0 and (n == 1 or length // n >= 64))


def short(
    q_BxHxLxK: Array,
    k_BxGxLxK: Array,
    v_BxGxLxK: Array,
    segments_BxL: Array | None,
    window: int | None,
) -> Array:
    """Static blocks of queries, each of which meets only the keys from its first query's first to
    its own end: with n blocks (n + 1) / 2n of the full matrix.
    """
    # The barrier has queries, keys and values computed once: without it the CPU compiler computes
    # norm and rotation again for every block of queries (a whole step takes 1.2 times as long).
    q_BxHxLxK, k_BxGxLxK, v_BxGxLxK = jax.lax.optimization_barrier(
        (q_BxHxLxK, k_BxGxLxK, v_BxGxLxK)
    )
    length = q_BxHxLxK.shape[2]
    size = length // query_blocks(length)
    outputs = []
    for begin in range(0, length, size):
        first, end = 0 if window is None else max(0, begin - window + 1), begin + size
        segments = None if segments_BxL is None else segments_BxL[:, first:end]
        piece = Piece(k_BxGxLxK[:, :, first:end], v_BxGxLxK[:, :, first:end], segments)
        q_segments = None if segments is None else segments[:, begin - first :]
        queries = q_BxHxLxK[:, :, begin:end]
        outputs.append(attend(queries, q_segments, piece, begin - first, window))
    return jnp.concatenate(outputs, axis=2)


def attend(
    q_BxHxLxK: Array,
    q_segments_BxL: Array | None,
    piece: Piece,
    start: Array | int,
    window: int | None,
    own: prefix.Prefix | None = None,
) -> Array:
    """One block of scaled queries, the first at slot `start` of the piece, against all of it, and
    against the layer's own keys.
    """
    length, slots = q_BxHxLxK.shape[2], piece.k_BxGxSxK.shape[2]
    distance_LxS = start + jnp.arange(length)[:, None] - jnp.arange(slots)[None, :]
    seen = flash.seen(distance_LxS, q_segments_BxL, piece.segments_BxS, window)
    return weighed(q_BxHxLxK, *((piece, seen) if own is None else prefix.before(own, piece, seen)))


def weights(
    q_BxHxLxK: Array,
    k_BxGxLxK: Array,
    segments_BxL: Array | None,
    window: int | None,
    causal: bool,
    own: prefix.Prefix | None = None,
) -> Array:
    """What each query gives each slot of its attention, float32 [B, H, L, L]: what `attention`
    makes of values that are the slots themselves. A layer's own keys take the rest.
    """
    eye_BxGxLxL = slots_as_values(k_BxGxLxK)
    whole = q_BxHxLxK, k_BxGxLxK, eye_BxGxLxL, segments_BxL
    if own is not None:
        nothing = jnp.zeros((*own.key_GxPxK.shape[:2], 1))
        return behind(prefix.Prefix(own.key_GxPxK, nothing), *whole, window, causal)
    if causal:
        return attend(scaled(q_BxHxLxK), segments_BxL, Piece(*whole[1:]), 0, window)
    return attention(*whole, causal=False, form="blockwise")


def slots_as_values(k_BxGxSxK: Array) -> Array:
    """Values of which each is its own slot, float32 [B, G, S, S]: attention gives its weights."""
    slots = k_BxGxSxK.shape[2]
    return jnp.broadcast_to(jnp.eye(slots), (*k_BxGxSxK.shape[:2], slots, slots))


def behind(
    own: prefix.Prefix,
    q_BxHxLxK: Array,
    k_BxGxLxK: Array,
    v_BxGxLxK: Array,
    segments_BxL: Array | None,
    window: int | None,
    causal: bool,
) -> Array:
    """As `attention`, of rows behind a layer's own keys, whose scores all exist at once."""
    piece, q_BxHxLxK = Piece(k_BxGxLxK, v_BxGxLxK, segments_BxL), scaled(q_BxHxLxK)
    if causal:
        return checkpoint_name(attend(q_BxHxLxK, segments_BxL, piece, 0, window, own), "attention")
    seen = None if segments_BxL is None else flash.together(segments_BxL, segments_BxL)
    return checkpoint_name(weighed(q_BxHxLxK, *prefix.before(own, piece, seen)), "attention")


def weighed(
    q_BxHxLxK: Array, piece: Piece, seen: Array | None, bias_HxLxS: Array | None = None
) -> Array:
    """The values of a piece, weighed for a block of scaled queries by a softmax over the slots that
    are `seen` (broadcast to [B, G, R, L, S]; None: all), of scores with a bias added.
    """
    batch, heads, length, channels = q_BxHxLxK.shape
    k_BxGxSxK, v_BxGxSxK, _ = piece
    groups = k_BxGxSxK.shape[1]
    q_BxGxRxLxK = q_BxHxLxK.reshape(batch, groups, heads // groups, length, channels)
    scores_BxGxRxLxS = jnp.einsum(
        "BGRLK,BGSK->BGRLS", q_BxGxRxLxK, k_BxGxSxK, preferred_element_type=jnp.float32
    )
    if bias_HxLxS is not None:
        scores_BxGxRxLxS += bias_HxLxS.reshape(1, *scores_BxGxRxLxS.shape[1:])
    if seen is not None:
        scores_BxGxRxLxS = jnp.where(seen, scores_BxGxRxLxS, flash.HIDDEN)
    # A softmax that divides after the values are summed: K channels are fewer than S keys.
    largest = jax.lax.stop_gradient(scores_BxGxRxLxS.max(axis=-1, keepdims=True))
    weights_BxGxRxLxS = jnp.exp(scores_BxGxRxLxS - largest)
    out_BxGxRxLxK = jnp.einsum(
        "BGRLS,BGSK->BGRLK",
        weights_BxGxRxLxS.astype(v_BxGxSxK.dtype),
        v_BxGxSxK,
        preferred_element_type=jnp.float32,
    )
    out_BxGxRxLxK /= weights_BxGxRxLxS.sum(axis=-1, keepdims=True)
    return out_BxGxRxLxK.reshape(batch, heads, length, -1).astype(v_BxGxSxK.dtype)
