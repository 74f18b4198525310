"""The image classifier of others that a model of this family can be: ResNet, of basic blocks or of
bottlenecks with the stride in the 3x3 convolution.

`scaling/exchange` reads this table in both directions (`families/exchanged.py`). Theirs have batch
norms, whose running statistics are ours of `model.norm=frozen`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from scaling.errors import ConfigError
from scaling.families.beside_weights import labels, unnamed
from scaling.families.exchanged import Architecture, Kernel, Tensor, linear
from scaling.families.resnet import blocks, convolutions

_STEM = "resnet.embedder.embedder"


def _normal(given: Mapping[str, Any]) -> dict[str, Any]:
    """With the blocks of the stages as a string, and the number of labels. Raises ConfigError for
    channels that do not double from stage to stage.
    """
    depths = list(given.get("depths", (3, 4, 6, 3)))
    kind, first = given.get("layer_type", "bottleneck"), given.get("embedding_size", 64)
    widths = list(given.get("hidden_sizes", (256, 512, 1024, 2048)))
    wanted = _widths(kind, first, len(depths))
    if widths != wanted:
        raise ConfigError(
            f"config.json: hidden_sizes={widths}, and models of this code have {wanted} behind a "
            f"stem of {first} channels"
        )
    own = {"embedding_size": first, "layer_type": kind, "_blocks": 1}
    stages = {"_stages": "-".join(map(str, depths))}
    return dict(given) | own | stages | {"_labels": len(given.get("id2label") or "01")}


def _widths(kind: str, first: int, stages: int) -> list[int]:
    return [first * 2**stage * (4 if kind == "bottleneck" else 1) for stage in range(stages)]


def _also(said: Mapping[str, Any], length: int) -> dict[str, Any]:
    depths = [said["_blocks"] * int(part) for part in said["_stages"].split("-")]
    widths = _widths(said["layer_type"], said["embedding_size"], len(depths))
    return {"depths": depths, "hidden_sizes": widths} | labels(unnamed(said["_labels"]))


def _sized(model: Any) -> tuple[Tensor, ...]:
    """The blocks: of each stage the first, which may have a shortcut, and the rest."""
    found = list[Tensor]()
    for stage in range(len(blocks(model))):
        parts = len(convolutions(model, stage, first=False))
        name = f"resnet.encoder.stages.{stage}.layers."
        for number, ours in (("0", f"stage{stage}_first"), ("{layer}", f"stage{stage}")):
            for i in range(parts):
                found += _normed(f"{name}{number}.layer.{i}", f"{ours}/conv{i}", f"{ours}/norm{i}")
            found += _normed(
                f"{name}{number}.shortcut", f"{ours}/shortcut", f"{ours}/shortcut_norm"
            )
    return tuple(found)


def _normed(theirs: str, convolution: str, norm: str) -> Iterator[Tensor]:
    """A convolution and its norm. Of those of stacked blocks the first is the stage's second."""
    yield Kernel(f"{theirs}.convolution.weight", (f"{convolution}/w",), first=1)
    names = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "variance"}
    for name, ours in names.items():
        yield Tensor(f"{theirs}.normalization.{name}", (f"{norm}/{ours}",), first=1)


RESNET = Architecture(
    name="resnet",
    classes=("ResNetForImageClassification",),
    tensors=(
        *_normed(_STEM, "stem", "stem_norm"),
        *linear("classifier.1", "head", name="matrix/w"),
    ),
    sized=_sized,
    has={
        "order": "post",
        "stem": "large",
        "norm": "frozen",
        "padding": "centred",
        "dropout": 0.0,
        "drop_path": 0.0,
    },
    fields={
        "width": "embedding_size",
        "depth": "_blocks",
        "stages": "_stages",
        "block": "layer_type",
        "channels": "num_channels",
        "classes": "_labels",
    },
    says={
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    },
    absent={"num_channels": 3},
    prefix="resnet.",
    heads=("classifier.",),
    ignored=("num_batches_tracked",),
    normal=_normal,
    also=_also,
)

ARCHITECTURES = (RESNET,)
