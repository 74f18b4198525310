"""Images with a label: `digits`, `mnist1d` (signals, as images one row high), a TFDS data set on
this disk, `tfds:<name>`, or a folder of class folders of pictures, `folder:<path>`.

Takes a config; gives standardised float32 images, resized, moved and mirrored by key where the
config asks for it. `sources.py` finds a data set, `stored.py` keeps its images, `splits.py` says
which of them are train and validation, `corruptions.py` makes them worse. An evaluation set with
`part="test"` and `split="all"` is the whole of another split of the source.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.config.amounts import check_subset
from scaling.config.contracts import AT_LEAST_ONE, DECAY, NOT_NEGATIVE, WITHIN, Facts, Kind, Shape
from scaling.config.marks import added
from scaling.data.kinds.images.corruptions import CORRUPTIONS, SEVERITIES
from scaling.data.kinds.images.splits import (
    ImageExamples,
    Splits,
    prepared_count,
    sides,
    splits_of,
)
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError, nearest


@dataclass(frozen=True)
class ImagesConfig(WholeExamples):
    """Images to be classified."""

    unit = "image"

    kind: Literal["images"] = "images"
    source: str = (
        "digits"  # mnist1d, tfds:<name>, a prepared TFDS set with features image and label, or
        # folder:<path>, a folder of class folders of .png or .jpg, or of splits that are such
    )
    part: str | None = None  # TFDS split that is trained on; None: train
    validation_part: str | None = (
        None  # TFDS split for validation; None: validation, else test, if the source has one
    )
    validation_fraction: float | None = (
        None  # share of the part held out for validation, by content hash; None: the split that
        # `validation_part` says, or 0.1 where there is none
    )
    unique_examples: int | None = (
        None  # size of the nested training subset, images; None: the whole train split
    )
    shift: int = 0  # pixels, at most, by which a training image is moved along each side
    side: int | None = added(
        None
    )  # every image is resized to so many pixels along both sides (of one row, along it); None: as
    # they are
    flip: bool = False  # every other training image is mirrored, left to right
    label_noise: float = added(
        0.0
    )  # share of the training images that have a wrong label, always the same ones
    corruption: str | None = added(
        None
    )  # noise, blur, contrast, occlusion or rotation of every image; None: as they are
    severity: int = added(3)  # of the corruption, 1 to 5
    permutation: int = added(
        0
    )  # number of an order that the pixels of all images are put into; 0: as they are
    labels: str | None = added(
        None
    )  # of the images that there are, with commas: "0,1" (the classes stay all); None: all
    seed: int | None = None  # order of the images; None: the run's seed
    corpus: str | None = None  # content hash of the images and their split; filled by resolve
    height: int | None = None  # pixels; None: the source's
    image_width: int | None = None  # likewise
    channels: int | None = None  # likewise
    classes: int | None = None  # likewise


_SIZES = ("height", "image_width", "channels", "classes")


def facts(data: ImagesConfig, train: ImagesConfig, root: Path) -> Facts:
    """See `Kind.facts`. The content hash is of images, labels and split, and of those of the
    training images, whose constants they are standardised by.

    Raises:
      SourceError: see `sources.find` and `stored.stored`; or the images are not of the size of
        those that are trained on, or of more classes; or a split is empty.
    """
    ours, trained_on = splits_of(data, root), splits_of(train, root)
    sizes, expected = _sizes(data, ours), _sizes(train, trained_on)
    _check_corruption(data, sizes)
    for name in _SIZES:
        wrong = sizes[name] > expected[name] if name == "classes" else sizes[name] != expected[name]
        if wrong:
            raise SourceError(
                f'source "{data.source}" has {name}={sizes[name]}, but what is trained on '
                f'("{train.source}") has {expected[name]}; choose a set of the same kind'
            )
    if (data.source, data.part) == (train.source, train.part):
        for split in ("train", "validation"):
            if not ours.count(split):
                what = "" if data.labels is None else f" of labels={data.labels}"
                raise SourceError(
                    f'source "{data.source}": no image{what} is in its {split} split; change '
                    f"data.{'validation_fraction or data.part' if not what else 'labels'}"
                )
    return Facts(
        content_hash=_content(data, ours, trained_on),
        train_examples=ours.count("train"),
        validation_examples=ours.count("validation"),
        sizes=sizes,
    )


def _sizes(data: ImagesConfig, splits: Splits) -> dict[str, int]:
    found = splits.images.sizes
    if data.side is None:
        return found
    height, width = sides(found["height"], data.side)
    return found | {"height": height, "image_width": width}


def _check_corruption(data: ImagesConfig, sizes: dict[str, int]) -> None:
    """Here, not in `resolve`: evaluation sets have their own."""
    name = data.corruption
    if name is None:
        return
    if name not in CORRUPTIONS:
        raise SourceError(f'"{name}" is none{nearest(name, CORRUPTIONS)}', "corruption")
    if data.severity not in SEVERITIES:
        raise SourceError(f"{data.severity} must be 1 to 5", "severity")
    if name == "rotation" and min(sizes["height"], sizes["image_width"]) == 1:
        raise SourceError("images of one row cannot be turned by rotation", "corruption")


def _content(data: ImagesConfig, ours: Splits, trained_on: Splits) -> str:
    same = ours.content == trained_on.content
    known = ours.content if same else key_of([ours.content, trained_on.content])
    changes: list[Any] = [] if data.corruption is None else [data.corruption, data.severity]
    changes += [data.label_noise] if data.label_noise else []
    changes += [] if data.side is None else [f"side {data.side}"]
    changes += [f"permutation {data.permutation}"] if data.permutation else []
    changes += [] if ours.labels is None else [f"labels {list(ours.labels)}"]
    return key_of([known, *changes]) if changes else known


def examples(data: ImagesConfig, train: ImagesConfig, split: str, root: Path) -> ImageExamples:
    """See `Kind.examples`; "all" is the whole part, what is held out of it included. Raises
    SourceError where the images are not those of `data.corpus`.
    """
    ours, trained_on = splits_of(data, root), splits_of(train, root)
    if data.corpus not in (None, found := _content(data, ours, trained_on)):
        raise SourceError(
            f"{data.corpus} is wanted, but {data.source} is now {found}: its files changed. Bring "
            "the files back, or start a new run",
            "corpus",
        )
    noise = data.label_noise if split == "train" else 0.0
    constants, moved = (trained_on.mean, trained_on.std), (data.shift, data.flip)
    worse = data.corruption, data.severity
    form = data.side, data.permutation
    return ImageExamples(ours, split, *constants, *moved, noise, *worse, *form)


def about(data: ImagesConfig, root: Path) -> dict[str, Any]:
    """See `Kind.about`: `unique`, the images of the train split, where they are prepared."""
    count = prepared_count(root, data.corpus or "")
    return {} if count is None else {"unique": count}


def resolve(data: ImagesConfig, facts: Facts) -> ImagesConfig:
    """The sizes filled in. Raises ConfigError where they are given and others, or where `shift` or
    `unique_examples` is larger than what there is.
    """
    for name in _SIZES:
        given = getattr(data, name)
        if given is not None and given != facts.sizes[name]:
            raise ConfigError(
                f"data.{name}={given}, but {data.source} has {facts.sizes[name]}; leave data.{name}"
                " unset"
            )
    along = facts.sizes["height"], facts.sizes["image_width"]
    side = min(along) if min(along) > 1 else max(along)
    if data.shift >= side:
        raise ConfigError(f"data.shift={data.shift} moves images of {side} pixels out of sight")
    check_subset(data, facts)
    found: dict[str, Any] = {name: facts.sizes[name] for name in _SIZES}
    return dataclasses.replace(data, **found)


def shapes(data: ImagesConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    if data.height is None or data.image_width is None or data.channels is None:
        raise ConfigError("data.height is not set: the config is not resolved")
    return {
        "image": ((data.height, data.image_width, data.channels), "float32"),
        "label": ((), "int32"),
        "weight": ((), "float32"),
    }


def shared(data: ImagesConfig, split: str, train: ImagesConfig, root: Path) -> int:
    """Images of an evaluation split that are, pixel for pixel, in the train split too; before they
    are corrupted.
    """
    return len(splits_of(data, root).digests(split) & splits_of(train, root).digests("train"))


_RANGES: Any = (
    (("unique_examples", "side"), AT_LEAST_ONE),
    (("validation_fraction",), WITHIN),
    (("shift", "permutation"), NOT_NEGATIVE),
    (("label_noise",), DECAY),
    (("severity",), (lambda v: v in SEVERITIES, "be 1 to 5")),
)
_IDLE: Any = (
    (
        ("data.validation_part",),
        lambda config: config.data.validation_fraction is None,
        "data.validation_fraction=None",
    ),
    (("data.severity",), lambda config: config.data.corruption is not None, "data.corruption"),
)

KIND = Kind(
    config=ImagesConfig,
    fields=frozenset({"image", "label", "weight"}),
    weights=("weight",),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    sizes=frozenset(_SIZES),
    shared=shared,
    about=about,
    ranges=_RANGES,
    idle=_IDLE,
)
