"""State fingerprints: a 32-bit hash of every tensor of a step, computed where the tensor lies.

The step hashes parameters, optimizer state, average of weights and the batch of one update every
`train.fingerprint_every` steps; the loop names the hashes and writes them. Two runs that should be
the same differ first at some step in some tensor: `scaling/records/comparison.py` finds which.

A tensor's hash is the sum modulo 2^32 of its elements' bits, each mixed with its place in the
tensor. Sums of integers modulo 2^32 do not depend on their order, and an element's place is that in
the whole tensor: on every mesh equal values have equal hashes. The mix is one-to-one, so a change
of one element always changes the hash.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

GROUPS = ("params", "optimizer", "ema", "batch")
_GOLDEN = 0x9E3779B9  # odd, so that multiples of it modulo 2^32 are all different


def _mix(x: Any) -> Any:
    """A one-to-one scramble of 32 bits: the finalizer of MurmurHash3 (Appleby, public domain)."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def _bits(x: jax.Array) -> list[jax.Array]:
    """The bits of every element as uint32 arrays of x's shape: one, or two for wide elements."""
    if x.dtype == jnp.bool_:
        return [x.astype(jnp.uint32)]
    width = x.dtype.itemsize
    if width == 8:
        halves = jax.lax.bitcast_convert_type(x, jnp.uint32)
        return [halves[..., 0], halves[..., 1]]
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}[width]
    return [jax.lax.bitcast_convert_type(x, unsigned).astype(jnp.uint32)]


def of_array(x: jax.Array) -> jax.Array:
    """The hash of one array, of any shape and of 1 to 8 bytes an element: a uint32 scalar."""
    place, stride = jnp.zeros(x.shape, jnp.uint32), 1
    for axis in reversed(range(x.ndim)):
        index = jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
        place, stride = place + index * np.uint32(stride % 2**32), stride * x.shape[axis]
    total = jnp.zeros((), jnp.uint32)
    for half, bits in enumerate(_bits(x)):
        salted = bits ^ (place * np.uint32(_GOLDEN) + np.uint32(half))
        total = total + jnp.sum(_mix(salted), dtype=jnp.uint32)
    return total


def _leaves(params: Any, opt_state: Any, ema: Any, batch: Any) -> dict[str, Any]:
    """Name -> leaf, "params/..." and so on, in the order of GROUPS."""
    found = {}
    for group, tree in zip(GROUPS, (params, opt_state, ema, batch), strict=True):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            found[f"{group}/{jax.tree_util.keystr(path, simple=True, separator='/')}"] = leaf
    return found


def names(params: Any, opt_state: Any, ema: Any, batch: Any) -> tuple[str, ...]:
    """What the elements of `of_step` are; takes shapes as well as arrays."""
    return tuple(_leaves(params, opt_state, ema, batch))


def of_step(params: Any, opt_state: Any, ema: Any, batch: Any) -> jax.Array:
    """Hashes of a state and of the batch of the update that led to it: uint32 [leaves]."""
    return jnp.stack([of_array(x) for x in _leaves(params, opt_state, ema, batch).values()])


def every(interval: int, step: jax.Array, *trees: Any) -> jax.Array:
    """`of_step(*trees)` where `step` is a multiple of `interval`, elsewhere zeros, which cost
    nothing (mapped over runs at different steps, the hashes are computed at all of them).
    """
    count = len(_leaves(*trees))
    return jax.lax.cond(
        step % interval == 0, of_step, lambda *_: jnp.zeros((count,), jnp.uint32), *trees
    )


def totals(hashes: Mapping[str, int]) -> dict[str, int]:
    """One hash a group of tensors, "hash/params": each tensor's mixed with its name. No jax."""
    found: dict[str, int] = {}
    for name, value in hashes.items():
        group = f"hash/{name.split('/')[0]}"
        mixed = zlib.crc32(value.to_bytes(4, "little"), zlib.crc32(name.encode()))
        found[group] = (found.get(group, 0) + mixed) % 2**32
    return found
