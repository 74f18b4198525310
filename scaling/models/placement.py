"""How queries and keys lie on the mesh, and functions run where they lie.

Takes arrays by head and the context's mesh and rules (`scaling/devices/sharding.py`); gives the
mesh axes that cut them. Called by `attention.py`. Shapes as in `layers.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
from jax.sharding import PartitionSpec

from scaling.models.layers import Array


@dataclass(frozen=True)
class Placement:
    """Mesh axes that cut the batch, the heads and the length; None: whole."""

    batch: Any
    heads: Any
    seq: Any
    shards: int  # devices along `seq`

    @property
    def by_head(self) -> PartitionSpec:
        """Of an array [B, H, L, ...]."""
        return PartitionSpec(self.batch, self.heads, self.seq)

    @property
    def by_row(self) -> PartitionSpec:
        """Of an array [B, L]."""
        return PartitionSpec(self.batch, self.seq)

    def run(self, function: Callable[..., Any], takes: Any, gives: Any, *arrays: Any) -> Any:
        """`function` on each device's part of `arrays`, cut and put together by these specs."""
        mesh = jax.sharding.get_abstract_mesh()
        if mesh.empty or mesh.size == 1:
            return function(*arrays)
        # All axes, used or not: inside, nothing is left for the partitioner, which cannot cut
        # kernels. Those of a surrounding shard_map are taken already.
        axes = set(mesh.axis_names) - set(mesh.manual_axes)
        return jax.shard_map(
            function, in_specs=takes, out_specs=gives, axis_names=axes, check_vma=False
        )(*arrays)


def placement(q_BxHxLxK: Array, k_BxGxLxK: Array) -> Placement:
    """Where the rules put queries and keys on the context's mesh; a size that an axis does not
    divide stays whole.
    """
    mesh = jax.sharding.get_abstract_mesh()
    rules = nn.logical_to_mesh_axes(("batch", "act_heads", "seq")) or (None, None, None)

    def ways(entry: Any) -> int:
        axes = (entry,) if isinstance(entry, str) else entry
        return math.prod(mesh.shape[axis] for axis in axes)

    def usable(entry: Any, *sizes: int) -> Any:
        if entry is None or mesh.empty or any(size % ways(entry) for size in sizes):
            return None
        return entry

    batch, heads, length, _ = q_BxHxLxK.shape
    seq = usable(rules[2], length)
    shards = 1 if seq is None else ways(seq)
    return Placement(
        batch=usable(rules[0], batch),
        heads=usable(rules[1], heads, k_BxGxLxK.shape[1]),
        seq=seq if shards > 1 else None,
        shards=shards,
    )
