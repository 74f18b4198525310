"""From a host's rows of a batch to one global array on the mesh: the only host-to-device copies."""

from typing import Any

import jax
import numpy as np


def host_rows(batch_size: int) -> slice:
    """The rows of a global batch that this host reads."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def place(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    """Each host's [rows, ...] arrays joined into global arrays with the given sharding."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)), tree
    )
