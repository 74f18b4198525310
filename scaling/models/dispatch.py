"""Tokens to their experts and back: by fixed slots, or sorted into groups of any size.

Takes one device's tokens, who goes where and with which weight, and the experts' function; gives
the weighted sums, token by token. Called by `moe.py`, inside its `shard_map` when there is a mesh.

Shapes: B rows, L length, T = B L tokens, J experts a token, A = T J assignments (token by token),
E experts, C slots that an expert has for one row's tokens, S slots in all. `mesh` has the sizes of
the mesh axes; None: there is no mesh, and everything is here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp

Array = jax.Array
Mesh = Mapping[str, int] | None


@dataclass(frozen=True)
class Plan:
    """Which token lies in which slot."""

    dispatch: Callable[[Array], Array]  # [T, D] -> [S, D], zeros in empty slots
    combine: Callable[[Array], Array]  # [S, D] -> [T, D], weighted sums over a token's slots


# ---- plans


def first_come(
    weight_BxLxJ: Array, expert_BxLxJ: Array, experts: int, slots: int, mesh: Mesh
) -> Plan:
    """An expert's slots go to the first `slots` assignments of each window that name it."""
    rows, _, per_token = expert_BxLxJ.shape
    row_BxLxJ = jnp.arange(rows)[:, None, None]
    group_A = (row_BxLxJ * experts + expert_BxLxJ).reshape(-1)
    order_A, position_A = _sort(group_A)
    named_BxAxE = expert_BxLxJ.reshape(rows, -1, 1) == jnp.arange(experts)[None, None]
    counts_G = jnp.sum(named_BxAxE, axis=1, dtype=jnp.int32).reshape(-1)
    start_G = jnp.cumsum(counts_G) - counts_G

    first, here = _own_slots(slots, mesh)
    rank_A = position_A - start_G[group_A]
    fits_A = (rank_A < slots) & (rank_A >= first) & (rank_A < first + here)
    slot_A = (expert_BxLxJ * rows + row_BxLxJ).reshape(-1) * here + rank_A - first

    rank_C = first + jnp.arange(here)
    start_ExB, counts_ExB = (g.reshape(rows, experts).T for g in (start_G, counts_G))
    full_ExBxC = (rank_C < slots)[None, None] & (rank_C[None, None] < counts_ExB[..., None])
    sorted_ExBxC = jnp.where(full_ExBxC, start_ExB[..., None] + rank_C[None, None], 0)
    assignments = group_A.shape[0]
    assignment_S = jnp.where(full_ExBxC, order_A[sorted_ExBxC], assignments).reshape(-1)
    slot_A = jnp.where(fits_A, slot_A, assignment_S.shape[0])
    return _by_assignment(weight_BxLxJ.reshape(-1, per_token), slot_A, assignment_S)


def taken(weight_BxExC: Array, token_BxExC: Array, length: int, mesh: Mesh) -> Plan:
    """Every slot names its token, by its place in the window."""
    rows, _, slots = token_BxExC.shape
    first, here = _own_slots(slots, mesh)
    nowhere = rows * length
    token_BxExC += (jnp.arange(rows) * length)[:, None, None]
    spare = ((0, 0), (0, 0), (0, whole(here, mesh) - slots))  # every device has as many

    def own(x_BxExC: Array, fill: int) -> Array:
        x_BxExC = jnp.pad(x_BxExC, spare, constant_values=fill)
        x_BxExC = jax.lax.dynamic_slice_in_dim(x_BxExC, first, here, axis=2)
        return x_BxExC.swapaxes(0, 1).reshape(-1)

    token_S, weight_S = own(token_BxExC, nowhere), own(weight_BxExC, 0)

    def combine(y_SxD: Array) -> Array:
        weighted_SxD = y_SxD.astype(jnp.float32) * weight_S[:, None]
        zeros_TxD = jnp.zeros_like(weighted_SxD, shape=(nowhere, y_SxD.shape[1]))
        return zeros_TxD.at[token_S].add(weighted_SxD, mode="drop").astype(y_SxD.dtype)

    return Plan(lambda x_TxD: _rows_or_zeros(x_TxD, token_S), combine)


def _own_slots(slots: int, mesh: Mesh) -> tuple[Array | int, int]:
    """First slot and number of slots of this device: `seq` splits them as it splits tokens."""
    here = -(-slots // whole(1, mesh))
    return (jax.lax.axis_index("seq") * here if mesh else 0), here


def _by_assignment(weight_TxJ: Array, slot_A: Array, assignment_S: Array) -> Plan:
    """Both ways round: the slot of each assignment and the assignment of each slot (S and A stand
    for none).
    """
    per_token = weight_TxJ.shape[1]
    slot_TxJ = slot_A.reshape(weight_TxJ.shape)

    def combine(y_SxD: Array) -> Array:
        y_AxD = _move(y_SxD, slot_A, assignment_S[:, None])
        y_TxJxD = y_AxD.reshape(*weight_TxJ.shape, -1)
        return jnp.sum(y_TxJxD * weight_TxJ.astype(y_SxD.dtype)[..., None], axis=1)

    return Plan(lambda x_TxD: _move(x_TxD, assignment_S // per_token, slot_TxJ), combine)


def _sort(group_A: Array) -> tuple[Array, Array]:
    """(assignments in the order of their groups, first come first; each one's place in it)."""
    order_A = jnp.argsort(group_A, stable=True)
    places_A = jnp.arange(group_A.shape[0], dtype=order_A.dtype)
    return order_A, jnp.zeros_like(order_A).at[order_A].set(places_A, unique_indices=True)


@jax.custom_vjp
def _move(x_NxD: Array, from_M: Array, to_NxR: Array) -> Array:
    """[M, D]: row from_M[m] of x, zeros where there is none. to_NxR names the rows of the result
    that a row of x went to: its gradient is their sum, another lookup. Left to itself it would be
    a scatter, which accelerators do one row at a time, or in any order.
    """
    return _rows_or_zeros(x_NxD, from_M)


def _move_forward(x_NxD: Array, from_M: Array, to_NxR: Array) -> tuple[Array, Array]:
    return _rows_or_zeros(x_NxD, from_M), to_NxR


def _move_backward(to_NxR: Array, d_MxD: Array) -> tuple[Array, None, None]:
    return _rows_or_zeros(d_MxD, to_NxR).sum(axis=1), None, None


_move.defvjp(_move_forward, _move_backward)


def _rows_or_zeros(x_NxD: Array, index: Array) -> Array:
    return x_NxD.at[index].get(mode="fill", fill_value=0)


# ---- transport


def whole(length: int, mesh: Mesh) -> int:
    """Length of a window of which this device has `length` tokens."""
    return length * (mesh["seq"] if mesh else 1)


def window(x_BxLxN: Array, mesh: Mesh) -> Array:
    """All tokens of the window, from this device's."""
    return jax.lax.all_gather(x_BxLxN, "seq", axis=1, tiled=True) if mesh else x_BxLxN


def through_slots(
    experts: Callable[[Array], Array], plan: Plan, x_BxLxD: Array, count: int, mesh: Mesh
) -> Array:
    """Every expert on its slots, [B, L, D].

    On a mesh slots travel to the devices of their experts and back, along `expert`. Those along
    `seq` gather the tokens of their windows, take a part of the slots each, and sum what comes out.

    Args:
      experts: [E', N, D] -> [E', N, D], for the E' experts of this device.
      count: E.
    """
    x_BxLxD = window(x_BxLxD, mesh)
    x_TxD = x_BxLxD.reshape(-1, x_BxLxD.shape[-1])
    x_ExNxD = plan.dispatch(x_TxD).reshape(count, -1, x_TxD.shape[1])
    if mesh:
        x_ExNxD = jax.lax.all_to_all(x_ExNxD, "expert", split_axis=0, concat_axis=1, tiled=True)
    y_ExNxD = experts(x_ExNxD)
    if mesh:
        y_ExNxD = jax.lax.all_to_all(y_ExNxD, "expert", split_axis=1, concat_axis=0, tiled=True)
    y_BxLxD = plan.combine(y_ExNxD.reshape(-1, x_TxD.shape[1])).reshape(x_BxLxD.shape)
    if mesh:
        y_BxLxD = jax.lax.psum_scatter(y_BxLxD, "seq", scatter_dimension=1, tiled=True)
    return y_BxLxD


def in_groups(
    experts: Callable[[Array, Array], Array],
    x_BxLxD: Array,
    weight_BxLxJ: Array,
    expert_BxLxJ: Array,
    count: int,
    mesh: Mesh,
) -> Array:
    """Every expert on all that name it, [B, L, D].

    On a mesh the devices along `expert` gather each other's tokens, take those that name their own
    experts, and sum what comes out. All tokens may name the experts of one device: it has room for
    all of them.

    Args:
      experts: (rows [A, D] in groups, sizes of the groups) -> [A, D].
      count: E.
    """
    x_TxD, weight_TxJ, expert_TxJ = (
        a.reshape(-1, a.shape[-1]) for a in (x_BxLxD, weight_BxLxJ, expert_BxLxJ)
    )
    own = count
    if mesh:
        x_TxD, weight_TxJ, expert_TxJ = (
            jax.lax.all_gather(a, "expert", axis=0, tiled=True)
            for a in (x_TxD, weight_TxJ, expert_TxJ)
        )
        own = count // mesh["expert"]
        expert_TxJ -= jax.lax.axis_index("expert") * own
    mine_A = ((expert_TxJ >= 0) & (expert_TxJ < own)).reshape(-1)
    group_A = jnp.where(mine_A, expert_TxJ.reshape(-1), own)  # the others' behind
    order_A, position_A = _sort(group_A)
    sizes_E = jnp.sum(group_A[:, None] == jnp.arange(own)[None], axis=0, dtype=jnp.int32)
    assignments = group_A.shape[0]
    filled_A = jnp.arange(assignments) < sizes_E.sum()
    plan = _by_assignment(
        weight_TxJ,
        jnp.where(mine_A, position_A, assignments),
        jnp.where(filled_A, order_A, assignments),
    )
    y_TxD = plan.combine(experts(plan.dispatch(x_TxD), sizes_E))
    if mesh:
        y_TxD = jax.lax.psum_scatter(y_TxD, "expert", scatter_dimension=0, tiled=True)
    return y_TxD.reshape(x_BxLxD.shape)
