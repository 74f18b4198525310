"""Images with a text each: scenes of real digits with a caption or a question in several languages,
or images of one's own with captions; the unit is the scene, the tokens of a text are bytes.

`composed.py` makes scenes, `grammar.py` has the words, `own.py` reads files.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.config.amounts import check_subset
from scaling.config.contracts import AT_LEAST_ONE, WITHIN, Facts, Kind, Shape
from scaling.data.kinds.scenes import own
from scaling.data.kinds.scenes.composed import Composed, languages_of
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError, nearest


@dataclass(frozen=True)
class ScenesConfig(WholeExamples):
    """Where images with texts come from, and what the texts do."""

    unit = "scene"
    UNIQUE = "unique_scenes"

    kind: Literal["scenes"] = "scenes"
    source: str = "digits:en"  # where they are; the forms are in `docs/data.md`
    task: Literal["captions", "questions"] = "captions"  # what a text is: questions have answers
    validation_scenes: int = 2000  # of composed ones
    validation_fraction: float = 0.1  # share of one's own images that is held out, by their hash
    corruption: str | None = None  # no_image or no_text: one of the two is blank; None: neither
    text_len: int | None = None  # room for a text, bytes; None: for the longest
    unique_scenes: int | None = None  # size of the nested training subset; None: all, or no end
    seed: int | None = None  # order of the scenes; None: the run's seed
    corpus: str | None = None  # hash of all that decides the examples; filled by resolve
    height: int | None = None  # pixels; None: the source's, as the three below
    image_width: int | None = None  # pixels
    channels: int | None = None  # of an image
    classes: int | None = None  # answers


_SIZES = ("text_len", "height", "image_width", "channels", "classes")
MISSING = ("no_image", "no_text")


def _found(data: ScenesConfig, split: str, root: Path) -> Composed | own.Own:
    """The scenes of a split. Raises SourceError."""
    form, _, rest = data.source.partition(":")
    asks = data.task == "questions"
    if form not in ("digits", "folder", "table") or not rest:
        raise SourceError(
            f'source "{data.source}" has no images with texts'
            f"{nearest(form, ('digits', 'folder', 'table'))}; write digits:en, digits:en-de, "
            "folder:<folder with captions.csv> or table:<file>#image,caption"
        )
    if data.corruption not in (None, *MISSING):
        said = nearest(data.corruption, MISSING)
        raise SourceError(f'"{data.corruption}" is none{said}', "corruption")
    if form == "digits":
        return Composed(languages_of(rest), asks, split, data.validation_scenes)
    return own.find(form, rest, asks, split, data.validation_fraction, root)


def _content(data: ScenesConfig, found: Composed | own.Own) -> str:
    return key_of([found.content] + ([data.corruption] if data.corruption else []))


def facts(data: ScenesConfig, train: ScenesConfig, root: Path) -> Facts:
    """See `Kind.facts`. Raises SourceError: see `own.find`; images of another size than those that
    are trained on, more answers, or a split without a scene.
    """
    ours, trained_on = _found(data, "train", root), _found(train, "train", root)
    counts = {split: len(_found(data, split, root)) for split in ("train", "validation")}
    if ours.sides != trained_on.sides or ours.channels != trained_on.channels:
        raise SourceError(
            f'source "{data.source}" has images of {_by(ours)}, but what is trained on has '
            f"{_by(trained_on)}; choose a set of the same kind"
        )
    if data.source == train.source and not all(counts.values()):
        raise SourceError(
            f'source "{data.source}": one of its splits has no image; give more images, or change '
            "data.validation_fraction"
        )
    height, width = ours.sides
    sizes = {"height": height, "image_width": width, "channels": ours.channels}
    sizes |= {"classes": ours.classes, "text_len": ours.longest, "vocab": ByteTokenizer.vocab}
    return Facts(_content(data, ours), counts["train"], counts["validation"], sizes)


def _by(found: Composed | own.Own) -> str:
    return " x ".join(map(str, (*found.sides, found.channels)))


def resolve(data: ScenesConfig, facts: Facts) -> ScenesConfig:
    """The sizes filled in. Raises ConfigError where they are given and others."""
    known: dict[str, Any] = {}
    for name in _SIZES:
        given, needed = getattr(data, name), facts.sizes[name]
        if given is not None and (given < needed or (name != "text_len" and given != needed)):
            raise ConfigError(
                f"data.{name}={given}, but {data.source} has {needed}; leave data.{name} unset"
            )
        known[name] = given or needed
    check_subset(data, facts)
    return dataclasses.replace(data, **known)


@dataclass(frozen=True)
class SceneExamples:
    """The scenes of a split, as arrays."""

    of: Composed | own.Own
    text_len: int
    corruption: str | None

    def __len__(self) -> int:
        return len(self.of)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The numbered scenes: `image` float32 [B, Y, X, C]; `text`, `text_segments` int32 [B, T]
        (1: a byte, 0: filled up); `meaning` and `label` int32 [B]: texts of one meaning say the
        same, and the label is the answer, 0 where nothing is asked; `weight`. What is missing is
        blank: an image of zeros, a text of one zero. Nothing is drawn: `keys` change nothing.
        """
        del keys
        images, texts, meanings, answers = self.of.take(indices)
        text, segments = np.zeros((2, len(indices), self.text_len), np.int32)
        for i, one in enumerate(texts):
            tokens = [0] if self.corruption == "no_text" else ByteTokenizer().encode(one)
            text[i, : len(tokens)], segments[i, : len(tokens)] = tokens, 1
        return {
            "image": images * np.float32(self.corruption != "no_image"),
            "text": text,
            "text_segments": segments,
            "meaning": meanings,
            "label": answers,
            "weight": np.ones(len(indices), np.float32),
        }


def examples(data: ScenesConfig, train: ScenesConfig, split: str, root: Path) -> SceneExamples:
    """See `Kind.examples`. Raises SourceError where the scenes are not those of `data.corpus`, or
    their texts longer than the run has room for.
    """
    found = _found(data, split, root)
    if data.corpus not in (None, now := _content(data, found)):
        raise SourceError(
            f"{data.corpus} is wanted, but {data.source} is now {now}: its files changed. Bring "
            "them back, or start a new run",
            "corpus",
        )
    if train.text_len is None:
        raise ConfigError("data.text_len is not set: the config is not resolved")
    if found.longest > train.text_len:
        raise SourceError(
            f'source "{data.source}" has texts of {found.longest} bytes; raise data.text_len from '
            f"{train.text_len}"
        )
    return SceneExamples(found, train.text_len, data.corruption)


def shapes(data: ScenesConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    if data.text_len is None or data.height is None:
        raise ConfigError("data.text_len is not set: the config is not resolved")
    sides = (data.height, data.image_width or 0, data.channels or 0)
    return {
        "image": (sides, "float32"),
        **dict.fromkeys(("text", "text_segments"), ((data.text_len,), "int32")),
        **dict.fromkeys(("meaning", "label"), ((), "int32")),
        "weight": ((), "float32"),
    }


def shared(data: ScenesConfig, split: str, train: ScenesConfig, root: Path) -> int:
    """Rows of an evaluation split that are in the train split too. Composed scenes of validation
    are of other pictures than those of training.
    """
    ours, trained_on = _found(data, split, root), _found(train, "train", root)
    if isinstance(ours, own.Own) and isinstance(trained_on, own.Own):
        same = ours.folder == trained_on.folder
        return len(np.intersect1d(ours.rows, trained_on.rows)) if same else 0
    return 0


def _about(data: ScenesConfig, root: Path) -> dict[str, Any]:
    """The rows of one's own train split; composed scenes have no end."""
    if data.source.startswith("digits:"):
        return {}
    return {"unique": len(_found(data, "train", root))}


def _inspect(data: ScenesConfig, lines: int, root: Path) -> tuple[str, dict[str, Any]]:
    """How many scenes there are, and the first texts of each split. Raises SourceError."""
    found: dict[str, Any] = {"source": data.source, "task": data.task}
    text = [f"{data.source}, {data.task}"]
    for split in ("train", "validation"):
        of = _found(data, split, root)
        _, texts, _, answers = of.take(np.arange(min(lines, len(of))))
        pairs = list(zip(texts, answers.tolist(), strict=True))
        count = None if split == "train" and isinstance(of, Composed) else len(of)
        found[split] = {"scenes": count, "first": pairs}
        text.append(f"{split}: {'endless' if count is None else f'{count:,}'} scenes, {_by(of)}")
        text += [f"  {t}" + (f"  ->  {a}" if of.classes > 1 else "") for t, a in pairs]
    return "\n".join(text), found


KIND = Kind(
    config=ScenesConfig,
    fields=frozenset({"image", "text", "text_segments", "meaning", "label", "weight"}),
    asks=frozenset({"text"}),
    weights=("weight",),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    shared=shared,
    about=_about,
    tokenizer=lambda data, root: ByteTokenizer(),
    inspect=_inspect,
    ranges=(
        (("validation_scenes", "text_len", "unique_scenes"), AT_LEAST_ONE),
        (("validation_fraction",), WITHIN),
    ),
)
