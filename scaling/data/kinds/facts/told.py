"""True facts of the world's territories as sentences of bytes, and as questions.

Each fact of one value for each head (`territories.ONE_VALUE`) is told in several statements, and
asked in one form of question, of which a share of the facts is never asked in training: what a
model says of those it can only have from the statements (Allen-Zhu and Li 2023, arXiv 2309.14316,
ask likewise of people of whom only biographies were read). `__init__.py` asks for rows.
"""

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from scaling.data import draws
from scaling.data.kinds.facts.asked import Asked, Retrieval, retrieved
from scaling.data.kinds.territories import ONE_VALUE, graph
from scaling.data.kinds.text.tokenizers import ByteTokenizer

# Relation -> what stands before the answer: the statements, the last the question.
_FORMS: dict[str, tuple[str, str, str, str]] = {
    "script": (
        "The script of the language {} is ",
        "Whoever writes {} takes the letters called ",
        "Texts in {} are in the script ",
        "In what script is {} written? ",
    ),
    "home": (
        "The home of the language {} is ",
        "Most texts in {} are from ",
        "Whoever speaks {} is likely to live in ",
        "Where is the language {} at home? ",
    ),
    "place": (
        "The time zone {} is that of ",
        "Clocks in the zone {} are those of ",
        "Who sets a watch to {} is in ",
        "Where is the time zone {}? ",
    ),
    "clock": (
        "The time zone {} follows the time called ",
        "In the zone {} clocks show the time ",
        "Time in {} goes by ",
        "What time does the zone {} follow? ",
    ),
    "area": (
        "The time zone {} lies in the area ",
        "The area of the zone {} is ",
        "Who looks for {} finds it under ",
        "In what area is the time zone {}? ",
    ),
    "week": (
        "In {} the week begins on ",
        "The first day of the week in {} is ",
        "A calendar made for {} begins with ",
        "On what day does the week begin in {}? ",
    ),
    "tender": (
        "The currency of {} is the ",
        "Shops in {} are paid in the currency ",
        "Who travels to {} changes money for the ",
        "What money is legal tender in {}? ",
    ),
    "main language": (
        "The main official language of {} is ",
        "Offices in {} write to most people in ",
        "Most people in {} can have a letter from the state in ",
        "What is the main official language of {}? ",
    ),
}
_STATEMENTS = 3
_SEPARATOR = ByteTokenizer.separator


@dataclass(frozen=True)
class Told:
    """The facts by number: in the train split all of them, told; in the validation split those
    whose question is held out, asked.
    """

    held_out: float  # share of the facts that training does not ask for
    seed: int
    parts: ClassVar[tuple[str, ...]] = ("told", "asked")
    vocab = ByteTokenizer.vocab

    @property
    def counts(self) -> tuple[int, int]:
        """See `Source`."""
        return len(_facts().heads), len(self._held)

    @property
    def identity(self) -> list[object]:
        """See `Source`."""
        return ["territories", _facts().content, self.held_out, self.seed, "v1"]

    def places(self, retrieved: int) -> int:
        """The longest form of the longest fact, behind so many of the longest statements, and a
        mark before each.
        """
        return _facts().longest + retrieved * _facts().longest_statement

    @property
    def _held(self) -> np.ndarray:
        """The facts that training does not ask for, drawn once: int64."""
        keys = draws.folded(draws.key("held out", self.seed), np.arange(len(_facts().heads)))
        return (keys < np.uint64(int(self.held_out * 2**64))).nonzero()[0]

    def ask(
        self,
        split: str,
        numbers: np.ndarray,
        part: str | None,
        before: Retrieval,
        keys: np.ndarray | None,
    ) -> Asked:
        """See `Source`. With keys a fact is told in any of its statements, or asked for if that is
        not held out; without, and where the part does not say "told", it is asked for.
        """
        facts, held = _facts(), self._held
        if split != "train":
            numbers = held[numbers]
        forms = np.full(len(numbers), 0 if part == "told" else _STATEMENTS)
        if keys is None:
            keys = draws.folded(draws.key("retrieved", self.seed), numbers)
        elif split == "train":
            drawn = draws.whole(draws.mixed(keys), 1, _STATEMENTS + 1)[:, 0]
            unasked = np.isin(numbers, held) & (drawn == _STATEMENTS)
            forms = np.where(unasked, numbers % _STATEMENTS, drawn)
        found = retrieved(before, keys, numbers, facts.first[numbers], facts.pool[numbers])
        length = self.places(before.count)
        stream = np.full((len(numbers), length + 1), _SEPARATOR, np.int32)
        counts = np.zeros((len(numbers), length), np.float32)
        for row, (number, form) in enumerate(zip(numbers.tolist(), forms.tolist(), strict=True)):
            given = [_SEPARATOR]
            for other in found[row].tolist():
                given += [*b"".join(facts.form(other, 0)), _SEPARATOR]
            question, answer = facts.form(number, form)
            given += question
            text = [*given, *answer, _SEPARATOR]
            stream[row, : len(text)] = text
            counts[row, len(given) - 1 : len(text) - 1] = 1
        bits = facts.bits[numbers]
        return Asked(stream, counts, bits, bits)

    def entropy(self, before: Retrieval) -> tuple[float, float] | None:
        """See `Source`: what a held-out form says is known, and how well it can be is not."""
        del before
        return None


class _Facts:
    """The facts, sorted by relation, as bytes."""

    def __init__(self) -> None:
        world = graph(one_value=True)
        order = np.argsort(world.triples[:, 1], kind="stable")
        triples = world.triples[order]
        self.content = world.content
        self.bits = world.prior()[order].astype(np.float32)
        self.names = [name for _, name in world.entities]
        self.heads, self.relations, self.tails = triples.T
        relations = list(ONE_VALUE)
        self.forms = [_FORMS[relation] for relation in relations]
        sizes = np.bincount(self.relations, minlength=len(relations))
        self.pool = sizes[self.relations]  # of each fact: facts of its relation
        self.first = (np.cumsum(sizes) - sizes)[self.relations]

    def form(self, number: int, form: int) -> tuple[bytes, bytes]:
        """What stands before the answer of a fact, and the answer."""
        head, relation, tail = (x[number] for x in (self.heads, self.relations, self.tails))
        before = self.forms[relation][form].format(self.names[head])
        return before.encode(), self.names[tail].encode()

    @functools.cached_property
    def longest(self) -> int:
        """Bytes of the longest fact in its longest form, and a mark."""
        forms = range(_STATEMENTS + 1)
        return 1 + max(self._length(i, form) for i in range(len(self.heads)) for form in forms)

    @functools.cached_property
    def longest_statement(self) -> int:
        """As `longest`, of what stands before a question."""
        return 1 + max(self._length(i, 0) for i in range(len(self.heads)))

    def _length(self, number: int, form: int) -> int:
        return sum(map(len, self.form(number, form)))


@functools.cache
def _facts() -> _Facts:
    return _Facts()
