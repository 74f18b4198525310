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


class LooksAhead(layers.MLP):
    """Every position sees the next one."""

    def __call__(self, x_BxLxD):
        return super().__call__(x_BxLxD) + jnp.roll(x_BxLxD, -1, axis=1)


class AcrossDocuments(layers.MLP):
    """Every position sees all before it, also those of other documents."""

    def __call__(self, x_BxLxD):
        return super().__call__(x_BxLxD) + jnp.cumsum(x_BxLxD, axis=1)


@jax.custom_vjp
def scaled(x):
    return x


scaled.defvjp(lambda x: (x, None), lambda _, dy: (1.01 * dy,))


class WrongBackward(layers.MLP):
    """Its backward pass is off by a hundredth."""

    def __call__(self, x_BxLxD):
        return scaled(super().__call__(x_BxLxD))


class LosesDigits(layers.MLP):
    """Adds a large number and takes it off again."""

    def __call__(self, x_BxLxD):
        large = 1000 * jnp.max(jnp.abs(x_BxLxD))  # of a constant the compiler knows better
        return (super().__call__(x_BxLxD) + large) - large


class OtherEagerly(layers.MLP):
    """Computes something else without jit."""

    def __call__(self, x_BxLxD):
        y_BxLxD = super().__call__(x_BxLxD)
        return 2 * y_BxLxD if jax.config.jax_disable_jit else y_BxLxD
