"""Utterances and their transcripts: digits, dates and names that eSpeak NG speaks, or recordings of
one's own, WAV or FLAC; the unit is the utterance, the tokens of a transcript are bytes.

`sources.py` finds and keeps them, `spoken.py` makes those that are made, `recorded.py` reads
files, `utterances.py` splits them by voice and gives examples. The default of 8,000 samples a
second is the telephone's: digits are told apart below 4 kHz, and half as many samples are computed.
"""

import dataclasses
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from scaling.config.amounts import check_subset
from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, WITHIN, Facts, Kind, Shape
from scaling.data.kinds.speech import sources
from scaling.data.kinds.speech.utterances import SpeechExamples, Split
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError


@dataclass(frozen=True)
class SpeechConfig(WholeExamples):
    """Where utterances come from, and how much of each there is room for."""

    unit = "utterance"
    UNIQUE = "unique_utterances"

    kind: Literal["speech"] = "speech"
    source: str = "digits:en"  # where the utterances are; the forms are in `docs/data.md`
    utterances: int | None = None  # that are spoken; None: 2,000; of recordings all are taken
    sample_rate: int = 8000  # samples a second; of recordings, what they have
    noise: float = 0.1  # white, at most: its root mean square over the speech's; 0: none
    samples: int | None = None  # room for an utterance; None: for the longest
    transcript_len: int | None = None  # room for its transcript, bytes; None: for the longest
    validation_fraction: float = 0.2  # share of the voices that is held out, by the hash of a name
    unique_utterances: int | None = (
        None  # size of the nested training subset; None: the whole train split
    )
    seed: int | None = None  # order of the utterances; None: the run's seed
    corpus: str | None = None  # hash of all that decides the examples; filled by resolve


_ROOM = ("samples", "transcript_len")
_RULE = "bytes; voices by sha256 of the name; v1"  # of splits and transcripts


def _found(data: SpeechConfig, root: Path) -> sources.Utterances:
    return sources.find(data.source, data.sample_rate, data.utterances, root)


def _content(data: SpeechConfig, found: sources.Utterances) -> str:
    return key_of([found.content, data.validation_fraction, data.noise, _RULE])


def _sizes(found: sources.Utterances) -> dict[str, int]:
    """The longest, and how few samples some token of a transcript has: CTC needs a place for each,
    and one between two that are equal.
    """
    encoded = [ByteTokenizer().encode(text) for text in found.texts]
    places = [len(t) + sum(a == b for a, b in itertools.pairwise(t)) for t in encoded]
    densest = int((found.counts // np.maximum(1, places)).min())
    lengths = {"samples": int(found.counts.max()), "transcript_len": max(map(len, encoded))}
    return {"vocab": ByteTokenizer.vocab, "samples_per_token": densest, **lengths}


def facts(data: SpeechConfig, train: SpeechConfig, root: Path) -> Facts:
    """See `Kind.facts`. Raises SourceError: see `sources.find`; or a single voice, or an utterance
    without sound.
    """
    found = _found(data, root)
    counts = {split: len(_split(data, split, root)) for split in ("train", "validation")}
    if data.source == train.source and len(set(found.speakers)) < 2:
        raise SourceError(
            f'source "{data.source}" has one voice: none can be held out; give more speakers'
        )
    if not found.counts.all():
        silent = found.texts[int(np.argmin(found.counts))]
        raise SourceError(f'source "{data.source}": "{silent}" has no sound')
    sizes = _sizes(found) | {"sample_rate": data.sample_rate}
    return Facts(_content(data, found), counts["train"], counts["validation"], sizes)


def _split(data: SpeechConfig, split: str, root: Path) -> Split:
    return Split(_found(data, root), split, data.validation_fraction)


def resolve(data: SpeechConfig, facts: Facts) -> SpeechConfig:
    """The lengths filled in. Raises ConfigError where they are given and too short."""
    lengths: dict[str, Any] = {}
    for name in _ROOM:
        given, needed = getattr(data, name), facts.sizes[name]
        if given is not None and given < needed:
            raise ConfigError(
                f"data.{name}={given}, but the longest of {data.source} needs {needed}; leave "
                f"data.{name} unset"
            )
        lengths[name] = given or needed
    check_subset(data, facts)
    return dataclasses.replace(data, **lengths)


def examples(data: SpeechConfig, train: SpeechConfig, split: str, root: Path) -> SpeechExamples:
    """See `Kind.examples`. Raises SourceError where the utterances are not those of `data.corpus`,
    or longer than the run has room for.
    """
    found = _found(data, root)
    if data.corpus not in (None, now := _content(data, found)):
        raise SourceError(
            f"{data.corpus} is wanted, but {data.source} is now {now}: its files changed, or this "
            "is another version of espeakng-loader. Bring them back, or start a new run",
            "corpus",
        )
    if train.samples is None or train.transcript_len is None:
        raise ConfigError("data.samples is not set: the config is not resolved")
    for name, needed in _sizes(found).items():
        if name in _ROOM and needed > getattr(train, name):  # of an evaluation set
            raise SourceError(
                f'source "{data.source}" needs {needed}; raise data.{name} from '
                f"{getattr(train, name)}"
            )
    of = Split(found, split, data.validation_fraction)
    return SpeechExamples(of, train.samples, train.transcript_len, data.noise)


def shapes(data: SpeechConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    if data.samples is None or data.transcript_len is None:
        raise ConfigError("data.samples is not set: the config is not resolved")
    return {
        "audio": ((data.samples,), "float32"),
        "samples": ((), "int32"),
        "transcript": ((data.transcript_len,), "int32"),
        "transcript_length": ((), "int32"),
        "weight": ((), "float32"),
    }


def shared(data: SpeechConfig, split: str, train: SpeechConfig, root: Path) -> int:
    """Utterances of an evaluation split that are, sample for sample, in the train split too."""
    ours, trained_on = _split(data, split, root), _split(train, "train", root)
    same = ours.utterances == trained_on.utterances
    if split == "validation" and same and data.validation_fraction == train.validation_fraction:
        return 0
    return len(ours.utterances.digests(ours.rows) & trained_on.utterances.digests(trained_on.rows))


def _about(data: SpeechConfig, root: Path) -> dict[str, Any]:
    """The utterances of the train split, and their hours; prepares nothing."""
    folder, _ = sources.prepared_place(data.source, data.sample_rate, data.utterances, root)
    if not folder.exists():
        return {}
    split = _split(data, "train", root)
    seconds = split.utterances.counts[split.rows].sum() / data.sample_rate
    return {"unique": len(split), "hours": float(seconds / 3600)}


def _inspect(data: SpeechConfig, lines: int, root: Path) -> tuple[str, dict[str, Any]]:
    """How many utterances and voices there are, and the first of each split. Raises SourceError."""
    utterances = _found(data, root)
    text: list[str] = []
    found: dict[str, Any] = {"source": data.source}
    for split in ("train", "validation"):
        of = _split(data, split, root)
        rows = of.rows.tolist()
        voices = {utterances.speakers[row] for row in rows}
        hours = float(utterances.counts[of.rows].sum() / data.sample_rate / 3600)
        first = [(utterances.speakers[row], utterances.texts[row]) for row in rows[:lines]]
        found[split] = {"utterances": len(rows), "hours": hours, "voices": len(voices)}
        found[split]["first"] = first
        text.append(f"{split}: {len(rows):,} utterances, {hours:.3g} hours, {len(voices)} voices")
        text += [f"  {who}: {said}" for who, said in first]
    return "\n".join([data.source, *text]), found


KIND = Kind(
    config=SpeechConfig,
    fields=frozenset({"audio", "samples", "transcript", "transcript_length", "weight"}),
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
        ((*_ROOM, "utterances", "unique_utterances", "sample_rate"), AT_LEAST_ONE),
        (("validation_fraction",), WITHIN),
        (("noise",), NOT_NEGATIVE),
    ),
    idle=(
        (
            ("data.utterances",),
            lambda config: sources.is_spoken(config.data.source),
            "a source that is spoken, such as digits:en",
        ),
    ),
)
