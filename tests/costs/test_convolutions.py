"""Convolutions cost the products whose operands are there: as the compiler counts, as loops count,
and as ones multiplied with ones add up to.
"""

import math
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from scaling.costs import convolutions
from scaling.costs.ledger import ledger

LAYOUTS = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC")}
IN, OUT, BATCH = 8, 16, 4


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


def convolution(space, stride=1, padding="SAME", dilation=1, groups=1, spread=1):
    """(input, kernel) -> output in `space` dimensions, channels last."""

    def convolve(x, w):
        return jax.lax.conv_general_dilated(
            x,
            w,
            (stride,) * space,
            padding,
            (spread,) * space,
            (dilation,) * space,
            LAYOUTS[space],
            feature_group_count=groups,
        )

    return convolve


def transposed(space, stride, padding):
    def convolve(x, w):
        strides = (stride,) * space
        return jax.lax.conv_transpose(x, w, strides, padding, dimension_numbers=LAYOUTS[space])

    return convolve


def trained(convolve):
    """Loss and the gradients of both operands."""
    return jax.value_and_grad(lambda x, w: (convolve(x, w) ** 2).sum(), argnums=(0, 1))


CASES = {
    "plain": {},
    "pointwise": {"taps": 1},
    "pointwise strided": {"taps": 1, "stride": 2},
    "strided": {"stride": 2},
    "strided by 3": {"stride": 3, "taps": 4},
    "dilated": {"dilation": 2},
    "dilated and strided": {"dilation": 2, "stride": 2},
    "grouped": {"groups": 2},
    "grouped and strided": {"groups": 2, "stride": 2},
    "depthwise": {"groups": IN},
    "depthwise and strided": {"groups": IN, "stride": 2, "taps": 4},
    "transposed": {"transposed": 2},
    "transposed by 3": {"transposed": 3, "taps": 4},
}


def case(name, space, size, padding, out=OUT):
    """The convolution of a case, and the shapes of its operands."""
    fields = dict(CASES[name])
    taps, groups = fields.pop("taps", 3), fields.get("groups", 1)
    stride = fields.pop("transposed", None)
    convolve = convolution(space, padding=padding, **fields)
    if stride is not None:
        convolve = transposed(space, stride, padding)
    image = shape(BATCH, *(size,) * space, IN)
    return convolve, image, shape(*(taps,) * space, IN // groups, out)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("space", [1, 2])
@pytest.mark.parametrize("size", [11, 12])
def test_forward_and_backward_are_within_2_percent_of_the_compilers(name, padding, space, size):
    convolve, *shapes = case(name, space, size, padding)
    for function in (convolve, trained(convolve)):
        compiler = jax.jit(function).lower(*shapes).compile().cost_analysis()["flops"]
        assert abs(ledger(function, *shapes).flops / compiler - 1) < 0.02


@pytest.mark.parametrize("stride", ["depthwise", "depthwise and strided"])
def test_the_depthwise_gradient_is_counted_as_it_is_written(stride):
    """With one output for each input channel, the CPU's compiler multiplies all channels of the
    kernel's gradient with all and keeps the diagonal: its "flops" are 3.1 times those here, of 8
    channels in two dimensions (1213815 to 383808 at size 15, 3 taps, SAME). A pointwise one is
    forward a plain product without sums, of half the FLOPs. So we compare before it compiles.
    """
    convolve, *shapes = case(stride, 2, 12, "SAME", out=IN)
    lowered = jax.jit(trained(convolve)).lower(*shapes)
    counted = ledger(trained(convolve), *shapes)
    assert abs(counted.flops / lowered.cost_analysis()["flops"] - 1) < 0.02
    assert counted.flops < 0.5 * lowered.compile().cost_analysis()["flops"]


def equations(function, *shapes):
    """The convolutions of a program, forward and backward."""
    found = []

    def walk(jaxpr):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "conv_general_dilated":
                found.append(eqn)
            for inner in eqn.params.values():
                if isinstance(inner, core.ClosedJaxpr):
                    walk(inner.jaxpr)

    walk(jax.make_jaxpr(function)(*shapes).jaxpr)
    return found


def products_by_loops(eqn):
    """One by one: for each output its taps, for each tap its input channels."""
    params, dims = eqn.params, eqn.params["dimension_numbers"]
    image, kernel = (v.aval.shape for v in eqn.invars)
    result = eqn.outvars[0].aval.shape
    taps, outputs, inputs = (
        [sizes[d] for d in spec[2:]]
        for sizes, spec in (
            (kernel, dims.rhs_spec),
            (result, dims.out_spec),
            (image, dims.lhs_spec),
        )
    )
    steps = zip(
        params["window_strides"],
        params["rhs_dilation"],
        params["padding"],
        params["lhs_dilation"],
        inputs,
        strict=True,
    )
    steps, count = list(steps), 0
    for _ in range(result[dims.out_spec[0]] * result[dims.out_spec[1]]):
        for output in np.ndindex(*outputs):
            for tap in np.ndindex(*taps):
                there = True
                for o, k, (stride, dilation, pads, spread, size) in zip(
                    output, tap, steps, strict=True
                ):
                    index, between = divmod(o * stride + k * dilation - pads[0], spread)
                    there = there and not between and 0 <= index < size
                count += there * kernel[dims.rhs_spec[1]]
    return count


@pytest.mark.parametrize("name", CASES)
def test_the_count_is_that_of_loops_over_every_product(name):
    fields = dict(CASES[name])
    taps, groups = fields.pop("taps", 3), min(fields.pop("groups", 1), 2)
    stride = fields.pop("transposed", None)
    convolve = convolution(2, groups=groups, **fields)
    if stride is not None:
        convolve = transposed(2, stride, "SAME")
    found = equations(trained(convolve), shape(1, 5, 4, 2), shape(taps, taps, 2 // groups, 2))
    assert len(found) == 3
    for eqn in found:
        assert convolutions.multiply_adds(eqn) == products_by_loops(eqn)


@pytest.mark.slow
def test_random_convolutions_cost_what_ones_add_up_to():
    """Ones convolved with ones: zeros of padding and dilation add nothing, so that the sum of the
    results is the number of products. Every product of the forward pass has one in each gradient.
    """
    draw = random.Random(0)
    for _ in range(15):
        space, groups = draw.choice([1, 2]), draw.choice([1, 2, 3])
        taps = [draw.randint(1, 4) for _ in range(space)]
        dilation = [draw.randint(1, 3) for _ in range(space)]
        sizes = [draw.randint(1 + d * (k - 1), 12) for k, d in zip(taps, dilation, strict=True)]
        stride, spread = ([draw.randint(1, 3) for _ in range(space)] for _ in range(2))
        padding = [(draw.randint(-1, 4), draw.randint(0, 4)) for _ in range(space)]
        x = shape(2, *sizes, groups * draw.randint(1, 2))
        w = shape(*taps, x.shape[-1] // groups, groups * draw.randint(1, 2))

        def convolve(
            x, w, stride=stride, padding=padding, spread=spread, dilation=dilation, groups=groups
        ):
            layout = LAYOUTS[x.ndim - 2]
            return jax.lax.conv_general_dilated(
                x, w, stride, padding, spread, dilation, layout, feature_group_count=groups
            )

        if not math.prod(jax.eval_shape(convolve, x, w).shape):
            continue
        once = ledger(convolve, x, w).convolution
        assert ledger(trained(convolve), x, w).convolution == 3 * once
        for eqn in equations(trained(convolve), x, w):
            ones = (jnp.ones(v.aval.shape) for v in eqn.invars)
            added = float(eqn.primitive.bind(*ones, **eqn.params).sum())
            assert 2 * added == once == 2 * convolutions.multiply_adds(eqn)


@pytest.mark.parametrize(("axes", "times"), [((0, 0), 3), ((0, None), 3), ((None, 0), 3)])
def test_several_at_once_cost_as_many_times_one(axes, times):
    """`vmap` makes groups of the batch or of the channels."""
    convolve, x, w = case("strided", 1, 9, "SAME")
    stacked = [
        shape(*(times,) * (axis == 0), *one.shape) for axis, one in zip(axes, (x, w), strict=True)
    ]
    for function in (convolve, trained(convolve)):
        counted = ledger(jax.vmap(function, in_axes=axes), *stacked).convolution
        assert counted == times * ledger(function, x, w).convolution


def test_long_kernels_and_long_signals_are_counted_without_a_walk():
    """A second of sound under a kernel as long: 2.6e8 pairs, of which half are there."""
    size = 16_000
    convolve = convolution(1, padding=[(size - 1, 0)])
    shapes = shape(1, size, 1), shape(size, 1, 1)
    pairs = size * (size + 1) // 2
    assert ledger(convolve, *shapes).convolution == 2 * pairs
    assert ledger(trained(convolve), *shapes).convolution == 6 * pairs
