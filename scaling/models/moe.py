"""Mixture of experts: a router sends each token to a few of many MLPs. In place of a block's MLP.

Takes the stream and gives what is added to it, with what is measured of the routing for each row of
the batch. Called by `blocks.py`. Shapes beside those of `layers.py`: E experts, J experts a token,
C slots that an expert has for the tokens of one window.

With `capacity_factor`, an assignment that finds no slot is dropped: the residual stream passes the
expert by. Without, nothing is dropped. Slots are counted by window, so that what is dropped depends
neither on the batch nor on the mesh.

On a mesh each device routes its own tokens. Experts lie along the mesh axis `expert`, over which
the rows of the batch are split too: `dispatch.py`, and docs/sharding.md for what travels.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import PartitionSpec

from scaling.config.amounts import resolved
from scaling.errors import UserError
from scaling.models import dispatch
from scaling.models.fields import BlockConfig, MoEConfig
from scaling.models.grouped import grouped_matmul
from scaling.models.layers import MLP, Array, parameter, truncated_normal

Weights = Mapping[str, Array]  # router [D, E]; up, and gate if gated, [E, D, F]; down [E, F, D]
Measures = dict[str, Array]  # float32 [B] by name


class MoE(nn.Module):
    """The sum over a token's experts of weight x expert(x), plus the shared experts, if any.

    `top_k`: a token goes to its `per_token` most likely experts, by a float32 softmax over all. The
    weights are their probabilities divided by their sum (Jiang et al. 2024, Mixtral, section 2.1).
    With one expert a token that would be 1 whatever the router says, and teach it nothing; there
    the weight is the probability itself (Fedus et al. 2022, Switch, section 2.1). Slots go to the
    first assignments of the window, so that no token depends on a later one.

    `expert_choice`: every expert takes its C most likely tokens of the window, weighted by their
    probabilities (Zhou et al. 2022, section 3.2). It is NOT causal: whether an expert takes a token
    depends on later tokens. A next-token loss may be lower than prediction can make it, and the
    model cannot generate.

    Routed experts multiply in the compute dtype, whatever `matmul` says of projections.

    Matrices start with the std of any projection, by the fan-in of one expert. The shared experts
    are one MLP with the channels of all of them.
    """

    config: BlockConfig
    out_scale: float  # multiplies the initial std of the output matrices

    @nn.compact
    def __call__(self, x_BxLxD: Array, decoding: bool = False) -> tuple[Array, Measures]:
        """
        Args:
          decoding: the tokens are a piece of a window. Then nothing is dropped.

        Returns:
          What is added to the stream, and measures, each divided by the depth, so that the sum over
          blocks is their mean:
          load_balance: E sum_e f_e P_e, f_e the share of the window's assignments that expert e
            gets and P_e its mean probability (Fedus et al. 2022, section 2.2). 1 if uniform.
          router_z: mean over tokens of logsumexp(router logits)^2 (Zoph et al. 2022, ST-MoE,
            equation 5).
          expert_load: E max_e f_e, before anything is dropped. 1 if uniform.
          dropped: share of the assignments without a slot; with `expert_choice`, of the tokens that
            no expert took.
        """
        c, moe = self.config, self.config.moe
        dtype, gated = jnp.dtype(c.dtype), c.mlp == "gated"
        experts, inner, width = moe.experts, resolved(moe.width), x_BxLxD.shape[-1]

        def weight(name: str, shape: tuple[int, ...], *axes: str, scale: float = 1.0) -> Array:
            init = truncated_normal(scale / math.sqrt(shape[-2]))
            return parameter(self, name, init, shape, axes)

        weights = {"router": weight("router", (width, experts), "embed", "router")}
        for name in ("gate", "up") if gated else ("up",):
            weights[name] = weight(name, (experts, width, inner), "expert", "embed", "mlp")
        shape = (experts, inner, width)
        weights["down"] = weight("down", shape, "expert", "mlp", "embed", scale=self.out_scale)
        # Cast before they are gathered over fsdp: half the bytes travel.
        weights = {k: w if k == "router" else w.astype(dtype) for k, w in weights.items()}
        # An initialisation has one row, which no mesh divides.
        run = _layer if self.is_initializing() else _on_mesh
        y_BxLxD, measures = run(moe, decoding, x_BxLxD.astype(dtype), weights)
        if moe.shared:
            width = moe.shared * inner
            shared = MLP(width, gated, dtype, self.out_scale, c.matmul, name="shared")
            y_BxLxD += shared(x_BxLxD)
        return y_BxLxD, {name: m_B / c.depth for name, m_B in measures.items()}


def capacity(moe: MoEConfig, length: int) -> int:
    """Slots of an expert for one window of `length` tokens; `length` if nothing is dropped."""
    if moe.capacity_factor is None:
        return length
    return min(length, math.ceil(moe.capacity_factor * length * moe.per_token / moe.experts))


def _on_mesh(
    moe: MoEConfig, decoding: bool, x_BxLxD: Array, weights: Weights
) -> tuple[Array, Measures]:
    """The layer with tokens and experts spread over the mesh of the context, if there is one.

    Experts' matrices are gathered over fsdp, and lie split over expert and tensor. Tokens come and
    go as they lie between the blocks: split over tensor too, if it divides them.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return _layer(moe, decoding, x_BxLxD, weights)
    split = x_BxLxD.shape[1] % (mesh.shape["seq"] * mesh.shape["tensor"]) == 0
    names = ("batch", "act_seq" if split else "seq", None)
    stream = nn.logical_to_mesh_axes(names) or PartitionSpec()
    batch = PartitionSpec(stream[0])
    inward, outward = PartitionSpec("expert", None, "tensor"), PartitionSpec("expert", "tensor")
    lie = {"router": PartitionSpec(), "gate": inward, "up": inward, "down": outward}
    others = tuple(axis for axis in (*stream[0], "seq") if axis != "expert")

    def layer(x_BxLxD: Array, weights: Weights) -> tuple[Array, Measures]:
        # Devices with the same experts have other tokens: what `grouped_matmul` must know of both
        # its arguments.
        weights = {
            name: w if name == "router" else jax.lax.pcast(w, others, to="varying")
            for name, w in weights.items()
        }
        # The devices along `tensor` do different things with the same tokens. Said here, gradients
        # are summed over them by token; said later, by slot.
        if split:
            x_BxLxD = jax.lax.all_gather(x_BxLxD, "tensor", axis=1, tiled=True)
        else:
            x_BxLxD = jax.lax.pcast(x_BxLxD, "tensor", to="varying")
        y_BxLxD, measures = _layer(moe, decoding, x_BxLxD, weights, dict(mesh.shape))
        if split:
            y_BxLxD = jax.lax.psum_scatter(y_BxLxD, "tensor", scatter_dimension=1, tiled=True)
        else:
            y_BxLxD = jax.lax.psum(y_BxLxD, "tensor")
        # They are the same along `tensor`, of which only this tells.
        return y_BxLxD, jax.tree.map(lambda m_B: jax.lax.pmean(m_B, "tensor"), measures)

    specs = (stream, {name: lie[name] for name in weights})
    return _for_stages(layer, specs, (stream, batch))(x_BxLxD, weights)


def _for_stages(layer: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`jax.shard_map`, to which the pipeline's mapping over stages adds the mesh axis `stage`.

    JAX would add it by itself, and map what is inside: gathers and loops of traced length do not
    bear that. A device has one stage, so there is nothing to map.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = set(mesh.axis_names) - set(mesh.manual_axes)  # those that no shard_map around has taken

    def over_mesh(function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Any:
        return jax.shard_map(function, in_specs=in_specs, out_specs=out_specs, axis_names=axes)

    plain = over_mesh(layer, in_specs, out_specs)
    if mesh.shape["stage"] == 1:
        return plain
    run = jax.custom_batching.custom_vmap(plain)

    def staged(specs: Any) -> Any:
        def add(spec: PartitionSpec) -> PartitionSpec:
            return PartitionSpec("stage", *spec)

        return jax.tree.map(add, specs, is_leaf=lambda s: isinstance(s, PartitionSpec))

    def one(*args: Any) -> Any:
        outputs = layer(*jax.tree.map(lambda x_S: x_S[0], args))
        return jax.tree.map(lambda y: y[None], outputs)

    @run.def_vmap
    def _(stages: int, mapped: Any, *args: Any) -> tuple[Any, Any]:
        args = jax.tree.map(
            lambda x, m: x if m else jnp.broadcast_to(x[None], (stages, *x.shape)),
            args,
            tuple(mapped),
        )
        outputs = over_mesh(one, staged(in_specs), staged(out_specs))(*args)
        return outputs, jax.tree.map(lambda _: True, outputs)

    return run


# ---- on one device; `mesh` has the sizes of the axes, or is None: there is none, all is here


def _layer(
    moe: MoEConfig, decoding: bool, x_BxLxD: Array, weights: Weights, mesh: dispatch.Mesh = None
) -> tuple[Array, Measures]:
    """This device's tokens through its part of everybody's experts' channels, and the measures of
    its rows.
    """
    with jax.named_scope("router"):
        logits_BxLxE = jnp.einsum(
            "BLD,DE->BLE",
            x_BxLxD.astype(jnp.float32),
            weights["router"],
            precision=jax.lax.Precision.HIGHEST,  # a TPU would round to bfloat16
        )
        probs_BxLxE = jax.nn.softmax(logits_BxLxE, axis=-1)
    route = _expert_choice if moe.router == "expert_choice" else _top_k
    y_BxLxD, share_BxE, kept_B = route(moe, decoding, x_BxLxD, probs_BxLxE, weights, mesh)
    mean_BxE = _over_window(probs_BxLxE.mean(axis=1), mesh)
    log_z_BxL = jax.nn.logsumexp(logits_BxLxE, axis=-1)
    measures = {
        "load_balance": moe.experts * jnp.sum(share_BxE * mean_BxE, axis=1),
        "router_z": _over_window(jnp.mean(log_z_BxL**2, axis=1), mesh),
        "expert_load": moe.experts * share_BxE.max(axis=1),
        "dropped": 1 - kept_B,
    }
    return y_BxLxD, measures


def _top_k(
    moe: MoEConfig,
    decoding: bool,
    x_BxLxD: Array,
    probs_BxLxE: Array,
    weights: Weights,
    mesh: dispatch.Mesh,
) -> tuple[Array, Array, Array]:
    """(sum over experts, share of the assignments by expert, share of them that is kept)."""
    weight_BxLxJ, expert_BxLxJ = jax.lax.top_k(probs_BxLxE, moe.per_token)
    if moe.per_token > 1:
        weight_BxLxJ /= weight_BxLxJ.sum(axis=-1, keepdims=True)
    named_BxLxJxE = expert_BxLxJ[..., None] == jnp.arange(moe.experts)[None, None, None]
    share_BxE = _over_window(named_BxLxJxE.mean(axis=(1, 2)), mesh)
    if moe.capacity_factor is None or decoding:

        def experts(x_AxD: Array, sizes_E: Array) -> Array:
            return _experts(lambda x, w: grouped_matmul(x, w, sizes_E), x_AxD, weights)

        y_BxLxD = dispatch.in_groups(
            experts, x_BxLxD, weight_BxLxJ, expert_BxLxJ, moe.experts, mesh
        )
        return y_BxLxD, share_BxE, jnp.ones_like(share_BxE[:, 0])
    length = dispatch.whole(x_BxLxD.shape[1], mesh)
    slots = capacity(moe, length)
    weight_BxLxJ, expert_BxLxJ = (dispatch.window(a, mesh) for a in (weight_BxLxJ, expert_BxLxJ))
    plan = dispatch.first_come(weight_BxLxJ, expert_BxLxJ, moe.experts, slots, mesh)
    y_BxLxD = dispatch.through_slots(
        functools.partial(_in_slots, weights), plan, x_BxLxD, moe.experts, mesh
    )
    room = slots / (length * moe.per_token)
    return y_BxLxD, share_BxE, jnp.minimum(share_BxE, room).sum(axis=1)


def _expert_choice(
    moe: MoEConfig,
    decoding: bool,
    x_BxLxD: Array,
    probs_BxLxE: Array,
    weights: Weights,
    mesh: dispatch.Mesh,
) -> tuple[Array, Array, Array]:
    """As `_top_k`; kept is the share of the tokens that some expert takes."""
    if decoding:
        raise UserError(
            "a model with model.moe.router=expert_choice cannot generate: whether an expert takes "
            "a token depends on later tokens; train one with model.moe.router=top_k"
        )
    length = dispatch.whole(x_BxLxD.shape[1], mesh)
    probs_BxExL = dispatch.window(probs_BxLxE, mesh).swapaxes(1, 2)
    weight_BxExC, token_BxExC = jax.lax.top_k(probs_BxExL, capacity(moe, length))
    plan = dispatch.taken(weight_BxExC, token_BxExC, length, mesh)
    y_BxLxD = dispatch.through_slots(
        functools.partial(_in_slots, weights), plan, x_BxLxD, moe.experts, mesh
    )
    taken_BxL = jnp.any(probs_BxLxE >= weight_BxExC[:, None, :, -1], axis=-1)
    kept_B = _over_window(taken_BxL.mean(axis=1), mesh)
    shape = kept_B.shape[0], moe.experts
    return y_BxLxD, jnp.full_like(kept_B, 1 / moe.experts, shape=shape), kept_B


def _in_slots(weights: Weights, x_ExNxD: Array) -> Array:
    """As many rows for every expert."""
    return _experts(functools.partial(jnp.einsum, "ENI,EIO->ENO"), x_ExNxD, weights)


def _experts(matmul: Callable[[Array, Array], Array], x: Array, weights: Weights) -> Array:
    """The MLPs of `layers.py`, with `matmul` for the products of rows and experts' matrices."""

    def into(name: str) -> Array:
        return checkpoint_name(matmul(x, weights[name]), "projection")

    h = nn.silu(into("gate")) * into("up") if "gate" in weights else nn.gelu(into("up"))
    return checkpoint_name(matmul(h, weights["down"]), "projection")


def _over_window(mean_Bx: Array, mesh: dispatch.Mesh) -> Array:
    """Means over the tokens of a window, from those over this device's part of it."""
    return jax.lax.pmean(mean_Bx, "seq") if mesh else mean_Bx
