"""Families, kinds of data and objectives are named in their own rooms, and nowhere else."""

import pathlib
import re

from scaling.config import choices

SCALING = pathlib.Path(__file__).parents[1] / "scaling"
OWN = ("families", "data/kinds", "objectives", "metrics", "transforms")  # may name them
# Words of transformers, of text or of one kind of loss, wherever they stand.
WORDS = {"seq_len", "vocab", "heads", "nats"}
# Names that are words of their own as well: where a kind is compared with one.
COMMON = {
    *("text", "images", "vectors", "sequences", "pairs", "labelled", "tagged", "questions"),
    *("passages", "denoising", "spans", "speech", "scenes", "fusion", "facts", "triples"),
}
# What may say which of them all the same. This list may only shrink.
EXCEPTIONS = {
    # Layers that families share are called what they are, and so are their logical axes.
    "models": {"heads", "vocab", "mlp", "transformer", "lstm", "seq_len"},
    "devices/sharding.py": {"heads", "vocab", "mlp", "lora"},
}


def exempt(path: pathlib.Path) -> set[str]:
    name = path.relative_to(SCALING).as_posix()
    return {w for place, words in EXCEPTIONS.items() if name.startswith(place) for w in words}


def names() -> set[str]:
    return {name for group in choices.ROOMS for name in choices.registry(group)} - {"none"}


def found_in(path: pathlib.Path) -> set[str]:
    source = path.read_text()
    wanted = (names() | WORDS) - COMMON
    found = {w for w in wanted if re.search(rf"(?<![a-z]){w}(?![a-z])", source, re.IGNORECASE)}
    return found | {w for w in COMMON if re.search(rf"kind\W{{1,6}}{w}[\"']", source)}


def test_nothing_outside_their_rooms_says_a_family_a_kind_or_an_objective():
    wrong = {}
    for path in sorted([*SCALING.rglob("*.py"), *SCALING.rglob("*.jinja")]):
        name = path.relative_to(SCALING).as_posix()
        if not name.startswith(OWN) and (found := found_in(path) - exempt(path)):
            wrong[name] = sorted(found)
    assert not wrong


def test_every_exception_is_needed():
    for place, words in EXCEPTIONS.items():
        paths = [SCALING / place] if place.endswith(".py") else sorted((SCALING / place).rglob("*"))
        said = {w for path in paths if path.suffix == ".py" for w in found_in(path)}
        assert words <= said, f"{place} no longer says {sorted(words - said)}: shorten the list"
