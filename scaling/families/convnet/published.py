"""Networks of papers, by name, at the size that they were published in: images of 224 x 224 pixels
and 1,000 classes, but for the larger of EfficientNet.

Read without jax. `tests/families/test_convnet.py` holds them against the published counts.
"""

import dataclasses
from typing import Any

from scaling.families.convnet import ConvNetConfig, table

_B0 = (
    "plain c32 s2, c16 e1, c24 n2 s2, c40 n2 s2 k5, c80 n3 s2, c112 n3 k5, "
    "c192 n4 s2 k5, c320, plain c1280 k1"
)
_EFFICIENTNET = ConvNetConfig(block="mbconv", width=32, stages=_B0)
# (width, depth, pixels) of B1 to B7, over B0's: the numbers that its authors round the compound
# rule to (`compound.py`).
EFFICIENTNETS = {
    "b1": (1.0, 1.1, 240),
    "b2": (1.1, 1.2, 260),
    "b3": (1.2, 1.4, 300),
    "b4": (1.4, 1.8, 380),
    "b5": (1.6, 2.2, 456),
    "b6": (1.8, 2.6, 528),
    "b7": (2.0, 3.1, 600),
}

PUBLISHED: dict[str, ConvNetConfig] = {
    # Simonyan and Zisserman 2015, table 1, column A
    "vgg11": ConvNetConfig(
        block="plain",
        width=64,
        stages="plain c64, pool k2, c128, pool k2, c256 n2, pool k2, c512 n2, pool k2, c512 n2, "
        "pool k2",
        norm="none",
        hidden=4096,
    ),
    # Huang et al. 2017, table 1
    "densenet121": ConvNetConfig(
        block="dense",
        width=64,
        stages="plain c64 k7 s2, pool, c32 n6, c32 n12 s2, c32 n24 s2, c32 n16 s2",
    ),
    # Szegedy et al. 2015, table 1, with norms and with 3x3 for 5x5, as torchvision has it
    "googlenet": ConvNetConfig(
        block="inception",
        width=64,
        stages="plain c64 k7 s2, pool, plain c64 k1, plain c192, pool, "
        "c64.96.128.16.32.32 k3, c128.128.192.32.96.64 k3, pool, "
        "c192.96.208.16.48.64 k3, c160.112.224.24.64.64 k3, c128.128.256.24.64.64 k3, "
        "c112.144.288.32.64.64 k3, c256.160.320.32.128.128 k3, pool k2, "
        "c256.160.320.32.128.128 k3, c384.192.384.48.128.128 k3",
    ),
    # Sandler et al. 2018, table 2
    "mobilenet_v2": ConvNetConfig(
        block="inverted",
        width=32,
        stages="plain c32 s2, c16 e1, c24 n2 s2, c32 n3 s2, c64 n4 s2, c96 n3, c160 n3 s2, c320, "
        "plain c1280 k1",
    ),
    # Ma et al. 2018, table 5
    "shufflenet_v2": ConvNetConfig(
        block="shuffle",
        width=24,
        stages="plain c24 s2, pool, c116 n4 s2, c232 n8 s2, c464 n4 s2, plain c1024 k1",
    ),
    # Liu et al. 2022, section 2
    "convnext_t": ConvNetConfig(
        block="convnext",
        width=96,
        stages="patches c96 k4, c96 n3, c192 n3 s2, c384 n9 s2, c768 n3 s2",
    ),
    # Tan and Le 2019, table 1
    "efficientnet_b0": _EFFICIENTNET,
}


def efficientnet(name: str) -> ConvNetConfig:
    """B1 to B7: B0 with more of all, and the pixels that it was published for."""
    width, depth, pixels = EFFICIENTNETS[name]
    fields: dict[str, Any] = table.grown(_EFFICIENTNET, width, depth)
    own = {field.partition(".")[2]: value for field, value in fields.items()}
    return dataclasses.replace(_EFFICIENTNET, **own, height=pixels, image_width=pixels)
