"""Training in fewer bits: the curve stays near that of float32, the gradients finite."""

import jax
import numpy as np
import pytest
from curves import curve


@pytest.fixture(scope="module")
def exact(tiny):
    return curve(tiny(), steps=8)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "matmul", ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in ("int8", "fp8"))]
)
def test_the_loss_falls_as_in_float32(tiny, exact, matmul):
    losses, params = curve(tiny({"model.dtype": "bfloat16", "model.matmul": matmul}), steps=8)
    assert exact[0] - exact[-1] > 0.3
    # The learned part may differ by a few percent; the loss as a whole by less.
    np.testing.assert_allclose(losses, exact, rtol=0.01)
    for leaf in jax.tree.leaves(params):
        assert leaf.dtype == np.float32
        assert np.isfinite(leaf).all()
