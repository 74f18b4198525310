"""Multiply-adds of a convolution, in closed form from its shapes. `ledger.py` counts with it.

Strides, padding, dilated kernels, transposed convolutions and groups are all one operation, and so
are the two backward passes; what differs is how many of its products have an operand that is there.
"""

import math
from typing import Any

import numpy as np
from jax.extend import core


def multiply_adds(eqn: core.JaxprEqn) -> int:
    """Of a `conv_general_dilated`: the products of an element of the input and one of the kernel.

    What meets a zero of the padding, or one that `lhs_dilation` puts between elements, is no work:
    the input gradient of a strided convolution is one of the latter, and costs what its forward
    pass does. XLA's cost analysis counts the same. Space is separable: the number of elements that
    meet is a product over its dimensions.
    """
    params, dims = eqn.params, eqn.params["dimension_numbers"]
    image, kernel = (_shape(v) for v in eqn.invars)
    result = _shape(eqn.outvars[0])
    positions = [
        _positions(
            image[dims.lhs_spec[2 + d]],
            kernel[dims.rhs_spec[2 + d]],
            result[dims.out_spec[2 + d]],
            params["window_strides"][d],
            params["padding"][d][0],
            params["lhs_dilation"][d],
            params["rhs_dilation"][d],
        )
        for d in range(len(dims.lhs_spec) - 2)
    ]
    # Of groups, each output channel reads a part of the input's; the kernel has that part's size.
    # Of groups of the batch, each output channel reads a part of the batch; the result has that.
    batch, out_channels = result[dims.out_spec[0]], result[dims.out_spec[1]]
    return batch * out_channels * kernel[dims.rhs_spec[1]] * math.prod(positions)


def _positions(
    image: int, kernel: int, result: int, stride: int, padding: int, spread: int, dilation: int
) -> int:
    """Pairs (tap, output) along one dimension whose input element exists.

    Tap k of output o reads the element (stride o + dilation k - padding) / spread, if that is a
    whole number from 0 up to `image`. Each of the pair's members has its step; the longer one is
    counted in closed form for every value of the shorter one.

    Args:
      image, kernel, result: elements along the dimension.
      padding: zeros before the first element; negative: elements cut off.
      spread: of the input's elements, `lhs_dilation`.
    """
    (short, step), (long, pace) = sorted([(kernel, dilation), (result, stride)])
    offset = step * np.arange(short, dtype=np.int64) - padding
    # pace n + offset = 0 modulo `spread`: solvable where their common divisor divides the offset,
    # and then by one n modulo `period`.
    divisor = math.gcd(pace, spread)
    period = spread // divisor
    solution = -(offset // divisor) * pow(pace // divisor, -1, period) % period
    first = np.maximum(-(offset // pace), 0)
    last = np.minimum((spread * (image - 1) - offset) // pace, long - 1)
    found = (last - solution) // period - (first - 1 - solution) // period
    return int(np.where(offset % divisor == 0, np.maximum(found, 0), 0).sum())


def _shape(var: Any) -> tuple[int, ...]:
    return var.aval.shape
