"""The models of `configs/published` have as many parameters as those who published them say."""

import pathlib

import pytest

from scaling.costs import sizes
from scaling.errors import ConfigError
from scaling.studies import study

FOLDER = pathlib.Path(__file__).parents[1] / "configs" / "published"
# Exactly, as the published weights have them.
EXACT = {
    "llama3.py:8b": 8_030_261_248,
    "llama3.py:70b": 70_553_706_496,
    "gpt2.py:124m": 124_439_808,
    "gpt2.py:355m": 354_823_168,
    "gpt2.py:774m": 774_030_080,
    "gpt2.py:1.5b": 1_557_611_200,
    "qwen3.py:8b": 8_190_735_360,
    # As Keras Hub's presets of T5 state them; of "large" also the log of its publishers' code.
    "t5.py:small": 60_506_624,
    "t5.py:base": 222_903_552,
    "t5.py:large": 737_668_096,
    "t5.py:3b": 2_851_598_336,
    "t5.py:11b": 11_307_321_344,
    # `num_params` of torchvision's weights.
    "vit.py:b16": 86_567_656,
    "vit.py:l16": 304_326_632,
    "resnet.py:18": 11_689_512,
    "resnet.py:50": 25_557_032,
    "resnet.py:152": 60_192_808,
}
# Without the heads of tokens and of passages, but for the layer that the second reads, as Keras
# Hub's presets of BERT state them.
BODIES = {"bert.py:base": 109_482_240, "bert.py:large": 335_141_888}
# Billions in all, and without embedding and head, as their model cards say.
SAID = {
    "qwen3.py:0.6b": (0.6, 0.44),
    "qwen3.py:1.7b": (1.7, 1.4),
    "qwen3.py:4b": (4.0, 3.6),
    "qwen3.py:8b": (8.2, 6.95),
    "qwen3.py:14b": (14.8, 13.2),
    "qwen3.py:32b": (32.8, 31.2),
}


def size_of(spec: str) -> sizes.Size:
    return sizes.size(study.resolve_planned(study.load_config(f"{FOLDER}/{spec}")))


# Counted from their programs, a second or two each.
SLOW = {f"t5.py:{size}" for size in ("base", "large", "3b", "11b")}


@pytest.mark.parametrize(
    "spec", [pytest.param(s, marks=pytest.mark.slow) if s in SLOW else s for s in EXACT]
)
def test_parameters_are_those_of_the_weights(spec):
    assert size_of(spec).params == EXACT[spec]


@pytest.mark.parametrize("spec", BODIES)
def test_parameters_without_heads_are_those_of_the_weights(spec):
    config = study.resolve_planned(study.load_config(f"{FOLDER}/{spec}"))
    width, symbols = config.model.width, config.model.vocab + 1
    tokens = width * width + width + 2 * width + symbols  # a layer, a norm, biases
    assert sizes.size(config).params - tokens - (2 * width + 2) == BODIES[spec]


@pytest.mark.parametrize("spec", SAID)
def test_parameters_are_those_of_the_model_card(spec):
    size, (total, inner) = size_of(spec), SAID[spec]
    digits = 2 if inner in (0.44, 6.95) else 1
    assert round(size.params / 1e9, 1) == total
    assert round(size.params_non_embedding / 1e9, digits) == inner


def test_a_size_that_is_none_is_one_sentence():
    with pytest.raises(ConfigError, match=r"llama3\.py:9b is no size.*8b"):
        study.load_config(f"{FOLDER}/llama3.py:9b")
