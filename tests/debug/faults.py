"""MLPs with a fault, to put in the place of `scaling.models.blocks.MLP`."""

import jax
import jax.numpy as jnp

from scaling.models import layers


class LogOfZero(layers.MLP):
    """Its output has p log p at p = 0 in it."""

    def __call__(self, x_BxLxD):
        p_BxLxD = x_BxLxD * 0
        return super().__call__(x_BxLxD) + p_BxLxD * jnp.log(p_BxLxD)


class DiscardedLog(layers.MLP):
    """A logarithm of zero that a `where` picks nothing of."""

    def __call__(self, x_BxLxD):
        return super().__call__(x_BxLxD) + jnp.where(x_BxLxD < jnp.inf, 0, jnp.log(x_BxLxD * 0))


@jax.custom_vjp
def divided(x):
    return x


divided.defvjp(
    lambda x: (x, x),
    lambda x, dy: (dy / (x - x),),  # a division by zero
)


class DividesBackward(layers.MLP):
    """Its backward pass divides by zero."""

    def __call__(self, x_BxLxD):
        return divided(super().__call__(x_BxLxD))


class Overflows(layers.MLP):
    """Its output is larger than its dtype holds."""

    def __call__(self, x_BxLxD):
        huge = jnp.asarray(3e38, x_BxLxD.dtype)
        return super().__call__(x_BxLxD) * huge * huge


class WrongShape(layers.MLP):
    """Its matrix is not for what it is given."""

    def __call__(self, x_BxLxD):
        return super().__call__(x_BxLxD) @ jnp.ones((x_BxLxD.shape[-1] + 1, 4))
