"""Flag presets go to the platform that has them, and to no other."""

import jax
import jax.numpy as jnp
import pytest

from scaling.devices import xla_flags
from scaling.devices.xla_flags import PRESETS


def test_a_platform_without_a_preset_gets_no_flag():
    for preset in PRESETS:
        assert xla_flags.options(preset, "cpu") == {}
        assert xla_flags.options(preset, "a platform of tomorrow") == {}


@pytest.mark.parametrize("preset", ["overlap", "sparse_core"])
def test_the_flags_of_a_gpu_are_known_to_this_compiler(preset):
    """They are among the debug options of every build, also of one for CPUs; a wrong one is not."""
    options = xla_flags.options(preset, "gpu")
    assert options

    def compiled(options):
        return jax.jit(lambda x: x + 1, compiler_options=options).lower(jnp.ones(2)).compile()

    for name, value in options.items():
        compiled({name: value})
        with pytest.raises(Exception, match="No such compile option"):
            compiled({f"{name}_of_tomorrow": value})


def test_the_line_at_the_start_names_every_flag():
    line = xla_flags.text("overlap", "tpu")
    assert line.startswith("XLA flags (overlap on tpu): ")
    for name, value in PRESETS["overlap"]["tpu"].items():
        assert f"{name}={str(value).lower()}" in line
    assert xla_flags.text("overlap", "cpu").endswith(": the defaults")
