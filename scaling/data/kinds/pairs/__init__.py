"""Pairs of texts, a source and what it is to be turned into: names of languages and countries in
two languages, dates and amounts written out, two files of aligned lines; the unit is the pair.

`sources.py` finds the pairs, `written.py` makes those that are made, `aligned.py` gives examples.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scaling.config.amounts import check_subset
from scaling.config.contracts import AT_LEAST_ONE, SHARE, WITHIN, Facts, Kind, Shape
from scaling.config.marks import added
from scaling.data.kinds.pairs import sources
from scaling.data.kinds.pairs.aligned import AlignedExamples, Split, longest, tokenizer
from scaling.data.kinds.pairs.sources import Pairs
from scaling.data.kinds.text import exchanged
from scaling.data.kinds.text.fields import IDLE, Tokenized
from scaling.data.kinds.text.tokenizers import ByteTokenizer, Tokenizer
from scaling.data.kinds.whole import WholeExamples
from scaling.data.store import key_of
from scaling.errors import ConfigError, SourceError


@dataclass(frozen=True)
class PairsConfig(WholeExamples, Tokenized):
    """Where pairs of texts come from, and how many tokens of each side there is room for."""

    unit = "pair"
    UNIQUE = "unique_pairs"

    kind: Literal["pairs"] = "pairs"
    source: str = "names:en-de"  # where the pairs are; the forms are in `docs/data.md`
    part: str | None = None  # of names: languages, territories, ...; None: all
    longest: int | None = added(
        None
    )  # bytes of a text; pairs with a longer one are left out, whatever their split. None: none
    # Share of the pairs that have drawn letters in what both texts share, each time that training
    # sees them (`scaling/data/kinds/pairs/hallucinated.py`)
    hallucinated: float = added(0.0)
    source_len: int | None = None  # tokens of the text to be read; None: of the longest
    target_len: int | None = None  # of the text to be written and its end; None: of the longest
    validation_fraction: float = 0.1  # share held out, by the hash of what both texts mean
    unique_pairs: int | None = (
        None  # size of the nested training subset; None: the whole train split
    )
    seed: int | None = None  # order of the pairs; None: the run's seed
    corpus: str | None = None  # hash of all that decides the examples; filled by resolve


# Part of every content hash: how a pair is assigned to a split and written as tokens, those of
# others by what is told of them beside it.
_RULE = "bytes, a separator before and behind the target; sha256 of the meaning < fraction; v1"


def _pairs(data: PairsConfig) -> Pairs:
    return sources.find(data.source, data.part, data.longest)


def _split(data: PairsConfig, split: str) -> Split:
    return Split(_pairs(data), split, data.validation_fraction)


def _content(data: PairsConfig, cutter: Tokenizer) -> str:
    told = [_pairs(data).content, data.validation_fraction, _RULE]
    if not isinstance(cutter, ByteTokenizer):
        told += [cutter.identity, cutter.begins]
    return key_of(told)


def facts(data: PairsConfig, train: PairsConfig, root: Path) -> Facts:
    """See `Kind.facts`. Raises SourceError: see `sources.find`; or a split without a pair."""
    counts = {split: len(_split(data, split)) for split in ("train", "validation")}
    if (data.source, data.part) == (train.source, train.part):
        for split, count in counts.items():
            if not count:
                raise SourceError(
                    f'source "{data.source}": no pair is in its {split} split; give more pairs, or '
                    "change data.validation_fraction"
                )
    cutter = tokenizer(train, root)
    source, target = longest(_pairs(data), cutter)
    sizes = {"vocab": cutter.vocab, "source_len": source, "target_len": target}
    return Facts(_content(data, cutter), counts["train"], counts["validation"], sizes)


def resolve(data: PairsConfig, facts: Facts) -> PairsConfig:
    """The lengths filled in. Raises ConfigError where they are given and too short, where nobody
    has read the pairs and they are not given, for a subset larger than the train split, or for
    drawn letters in pairs that are made.
    """
    lengths: dict[str, Any] = {}
    for name in ("source_len", "target_len"):
        given, needed = getattr(data, name), facts.sizes.get(name, 0)
        if not given and not needed:
            raise ConfigError(
                f"data.{name} is unset, and {data.source} is not read when model.vocab is given; "
                "give both"
            )
        if given is not None and given < needed:
            raise ConfigError(
                f"data.{name}={given}, but the longest text of {data.source} has {needed} tokens; "
                f"leave data.{name} unset"
            )
        lengths[name] = given or needed
    if data.hallucinated and sources.made(data.source):
        raise ConfigError(
            f"data.hallucinated={data.hallucinated}: {data.source} is made of all that there is, "
            "and drawn letters could make what is held out; leave it at 0"
        )
    check_subset(data, facts)
    return dataclasses.replace(data, **lengths)


def examples(data: PairsConfig, train: PairsConfig, split: str, root: Path) -> AlignedExamples:
    """See `Kind.examples`. Raises SourceError where the pairs are not those of `data.corpus`, or
    longer than the run has room for.
    """
    cutter = tokenizer(train, root)
    if data.corpus not in (None, found := _content(data, cutter)):
        raise SourceError(
            f"{data.corpus} is wanted, but {data.source} is now {found}: its files changed, or "
            "this is another version of babel. Bring them back, or start a new run",
            "corpus",
        )
    if train.source_len is None or train.target_len is None:
        raise ConfigError("data.source_len is not set: the config is not resolved")
    source, target = longest(_pairs(data), cutter)
    for name, needed, room in (
        ("source_len", source, train.source_len),
        ("target_len", target, train.target_len),
    ):
        if needed > room:  # of an evaluation set; `resolve` has seen to the training pairs
            raise SourceError(
                f'source "{data.source}" has texts of {needed} tokens; raise data.{name} from '
                f"{room}"
            )
    lengths = train.source_len, train.target_len
    return AlignedExamples(_split(data, split), cutter, *lengths, data.hallucinated)


def shapes(data: PairsConfig) -> dict[str, Shape]:
    """See `Kind.shapes`."""
    if data.source_len is None or data.target_len is None:
        raise ConfigError("data.source_len is not set: the config is not resolved")
    of_source = dict.fromkeys(("source", "source_segments"), ((data.source_len,), "int32"))
    names = ("tokens", "targets", "positions", "target_bytes")
    return {
        **of_source,
        **dict.fromkeys(names, ((data.target_len,), "int32")),
        "loss_mask": ((data.target_len,), "float32"),
    }


def shared(data: PairsConfig, split: str, train: PairsConfig, root: Path) -> int:
    """Pairs of an evaluation split whose two texts are a pair of the train split too."""
    del root
    ours, trained_on = _split(data, split), _split(train, "train")
    if ours.pairs == trained_on.pairs and data.validation_fraction == train.validation_fraction:
        return 0 if split == "validation" else len(trained_on)
    return ours.pairs.shared(ours.rows, trained_on.pairs, trained_on.rows)


def _inspect(data: PairsConfig, lines: int, root: Path) -> tuple[str, dict[str, Any]]:
    """How many pairs there are, and the first of each split. Raises SourceError."""
    found: dict[str, Any] = {"source": data.source, "part": data.part}
    pairs = _pairs(data)
    text = [f"{data.source}: {len(pairs):,} pairs, {pairs.dropped} of them dropped as copies"]
    for split in ("train", "validation"):
        of_split = _split(data, split)
        rows = of_split.rows[:lines]
        shown = [tuple(side.decode(errors="replace") for side in pair) for pair in pairs.take(rows)]
        found[split] = {"pairs": len(of_split), "first": shown}
        text += [f"{split}: {len(of_split):,} pairs"] + [f"  {a}  ->  {b}" for a, b in shown]
    return "\n".join(text), found


KIND = Kind(
    config=PairsConfig,
    fields=frozenset(
        {
            *("source", "source_segments", "tokens", "targets", "positions"),
            *("loss_mask", "target_bytes"),
        }
    ),
    asks=frozenset({"source"}),
    weights=("loss_mask", "target_bytes"),
    facts=facts,
    examples=examples,
    resolve=resolve,
    shapes=shapes,
    shared=shared,
    about=lambda data, root: {"unique": len(_split(data, "train"))},
    tokenizer=tokenizer,
    adopt=exchanged.adopt,
    idle=IDLE,
    inspect=_inspect,
    ranges=(
        (("source_len", "target_len", "unique_pairs", "longest"), AT_LEAST_ONE),
        (("validation_fraction",), WITHIN),
        (("hallucinated",), SHARE),
    ),
)
