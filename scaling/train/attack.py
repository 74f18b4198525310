"""Examples moved, within a box about each, to where the loss is larger.

Takes a loss and a batch on the device; gives the batch with its images (or vectors) changed, or,
of tokens, with a shift beside them of what the model looks them up as, which `moved` puts in.
Called by `step.py`, where runs train on such examples, and by `passes.py`, which evaluates on them.
From the example itself on, with no random start: a row's attack is the same however the batch is
cut.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.models.observed import putting

Array = jax.Array
Batch = dict[str, Array]
INPUTS = ("image", "features")  # fields of numbers that can be moved
SHIFT = "shift"  # of what tokens are looked up as, [B, ...] as that: beside them in a batch
REACH = (
    2.5  # how often all steps together cross the box's half width (Madry et al. 2018, section 4)
)


def attacked(loss: Callable[[Batch], Array], batch: Batch, epsilon: float, steps: int) -> Batch:
    """The batch with every number moved by up to `epsilon`: of images and vectors in the data's own
    units, of tokens in what they are looked up as, in units of a row's root mean square there, so
    that a larger embedding is no way out (Miyato, Dai and Goodfellow 2017, arXiv 1605.07725,
    section 3, normalise it for that).

    One step is the fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572, eq. 3), more
    are projected gradient ascent in the box of the maximum norm (Madry et al. 2018, arXiv
    1706.06083, section 2.1).

    Args:
      loss: of a batch, summed over its rows; a row's depends on that row alone. It puts in what is
        beside the tokens (`moved`).
    """
    name = next((n for n in INPUTS if n in batch), SHIFT)
    if name == SHIFT:
        looked_up = _looked_up(loss, batch)
        axes = tuple(range(1, looked_up.ndim))
        half = epsilon * jnp.sqrt(jnp.mean(looked_up**2, axis=axes, keepdims=True))
        start = jnp.zeros_like(looked_up)
    else:
        start, half = batch[name], jnp.asarray(epsilon)
    size = half if steps == 1 else REACH * half / steps
    slope = jax.grad(lambda x: loss(batch | {name: x}))

    def step(x: Array, _: None) -> tuple[Array, None]:
        further = x + size * jnp.sign(slope(x))
        return jnp.clip(further, start - half, start + half), None

    found, _ = jax.lax.scan(step, start, None, length=steps)
    return batch | {name: jax.lax.stop_gradient(found)}


@contextlib.contextmanager
def moved(batch: Batch) -> Iterator[Batch]:
    """Inside it a model that is called on the batch that is given looks tokens up as the shift
    beside them says, if there is one.
    """
    if SHIFT not in batch:
        yield batch
        return
    shift = batch[SHIFT]
    with putting(lambda x: x + shift.astype(x.dtype)):
        yield {name: rows for name, rows in batch.items() if name != SHIFT}


def _looked_up(loss: Callable[[Batch], Array], batch: Batch) -> Array:
    """What the first lookup of the model makes of the batch, float32."""
    met = list[Array]()

    def put(x: Array) -> Array:
        met.append(x)
        return x

    with putting(put):
        loss(batch)
    if not met:
        raise ConfigError(
            "attack.epsilon moves images, vectors, or what tokens are looked up as, and the model "
            "looks nothing up; leave it at 0, or take another model.family"
        )
    return jax.lax.stop_gradient(met[0].astype("float32"))
