"""Spectral normalisation: a matrix over its largest singular value. Called by `convolution.py`.

Miyato et al. 2018 (arXiv 1802.05957) keep the singular vectors from step to step; here a few steps
of the power method begin anew at a fixed vector, so that a layer has no state beside its
parameters.
"""

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
_EPS = 1e-12  # added to norms that are divided by


def normalised(w: Array, steps: int) -> Array:
    """`w` [..., O], read as a matrix [I, O], over `largest`; its gradient knows of the division."""
    return w / (largest(w.reshape(-1, w.shape[-1]), steps) + _EPS)


def largest(w_IxO: Array, steps: int) -> Array:
    """The largest singular value after `steps` of the power method, from below; a scalar, float32.

    The singular vectors are constants to the gradient, which is then that of the value itself where
    they are right (as in section 2.1 of the paper).
    """
    fixed_IxO = jax.lax.stop_gradient(w_IxO)
    start_O = np.random.default_rng(0).normal(size=w_IxO.shape[1]).astype(np.float32)
    right_O, left_I = _unit(jnp.asarray(start_O)), jnp.zeros(w_IxO.shape[0])
    for _ in range(steps):
        left_I = _unit(fixed_IxO @ right_O)
        right_O = _unit(left_I @ fixed_IxO)
    return jnp.einsum("i,io,o->", left_I, w_IxO, right_O)


def _unit(x: Array) -> Array:
    return x / (jnp.sqrt(jnp.sum(x * x)) + _EPS)
