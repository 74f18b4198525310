"""Equal blocks one after the other, their parameters stacked on a leading axis, "layers".

However they are run, scanned or unrolled, with remat or without, the parameters are the same, so
that a checkpoint and the random numbers of an initialisation serve every form. Called by the
families whose blocks have neither caches nor penalties.
"""

from typing import Any

import flax.linen as nn
import jax

from scaling.models.dropout import Keys
from scaling.models.layers import Array
from scaling.models.remat import policy


def run_stack(
    parent: nn.Module,
    name: str,
    length: int,
    block: type[nn.Module],
    fields: tuple[Any, ...],
    x: Array,
    *context: Array | None,
    scan_layers: bool,
    remat: str = "none",
    dropout: Keys | None = None,
    first: int = 0,
) -> Array:
    """`length` blocks `block(*fields)`, each of which maps (x, *context) to an x of that shape.

    Args:
      parent: the module, inside its compact method, that owns the parameters, as `name`.
      context: what every block is given beside the stream.
      scan_layers: one compiled block, looped; False: unrolled.
      remat: as `model.remat` (`remat.py`).
      dropout: of the batch; each block is then given its own, behind the context.
      first: number of the first block, among those that drop something.
    """
    if length == 0:
        return x
    if parent.is_initializing():
        # Side by side: the stream's shape is the same behind every block.
        makes = nn.vmap(
            block,
            in_axes=None,
            axis_size=length,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return makes(*fields, name=name, parent=parent)(x, *context)[0]
    numbers = None if dropout is None else jax.numpy.arange(first, first + length)
    params = parent.variables["params"][name], numbers

    def one(numbered: Any, x: Array, context: Any) -> Any:
        params, number = numbered
        if dropout is not None:
            context = (*context[0], context[1].of_layer(number))
        return block(*fields, parent=None).apply({"params": params}, x, *context)

    given = context if dropout is None else (context, dropout)
    if remat != "none":
        # Inside a scan the loop already keeps the compiler from undoing the remat.
        one = jax.checkpoint(one, policy=policy(remat), prevent_cse=not scan_layers)
    if scan_layers:
        return jax.lax.scan(lambda x, params: (one(params, x, given), None), x, params)[0]
    for layer in layers_of(params):
        x = one(layer, x, given)
    return x


def layers_of(stacked: Any) -> list[Any]:
    """The layers of a stacked tree. The gradient of a split is one concatenation; that of a slice
    for each layer is a sum of as many arrays of the whole size.
    """
    leaves, structure = jax.tree.flatten(stacked)
    depth = leaves[0].shape[0]
    columns = [[part[0] for part in jax.numpy.split(leaf, depth)] for leaf in leaves]
    return [jax.tree.unflatten(structure, [c[i] for c in columns]) for i in range(depth)]
