"""Examples moved, within a box about each, to where the loss is larger.

Takes a loss and a batch on the device; gives the batch with its images (or vectors) changed. Called
by `step.py`, where runs train on such examples, and by `passes.py`, which evaluates on them. From
the example itself on, with no random start: a row's attack is the same however the batch is cut.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

Array = jax.Array
Batch = dict[str, Array]
INPUTS = ("image", "features")  # fields of numbers that can be moved
REACH = (
    2.5  # how often all steps together cross the box's half width (Madry et al. 2018, section 4)
)


def attacked(loss: Callable[[Batch], Array], batch: Batch, epsilon: float, steps: int) -> Batch:
    """The batch with every number moved by up to `epsilon`, in the data's own units.

    One step is the fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572, eq. 3), more
    are projected gradient ascent in the box of the maximum norm (Madry et al. 2018, arXiv
    1706.06083, section 2.1).

    Args:
      loss: of a batch, summed over its rows; a row's depends on that row alone.
    """
    name = next(n for n in INPUTS if n in batch)
    start = batch[name]
    size = epsilon if steps == 1 else REACH * epsilon / steps
    slope = jax.grad(lambda x: loss(batch | {name: x}))

    def step(x: Array, _: None) -> tuple[Array, None]:
        moved = x + size * jnp.sign(slope(x))
        return jnp.clip(moved, start - epsilon, start + epsilon), None

    found, _ = jax.lax.scan(step, start, None, length=steps)
    return batch | {name: jax.lax.stop_gradient(found)}
