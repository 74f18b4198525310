"""Pairs of texts: every source, its splits, its tokens, and what is wrong with files."""

import difflib
from pathlib import Path

import numpy as np
import pytest

from scaling.config.contracts import Facts
from scaling.data import draws
from scaling.data.kinds.pairs import KIND, PairsConfig, sources
from scaling.data.kinds.pairs.hallucinated import hallucinated
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.errors import ConfigError, DataError

NOWHERE = Path("/nowhere")  # nothing is kept
MADE = ("names:en-de", "names:en+nl-de+sv", "copies:en+de", "dates:de", "weekdays:fr", "amounts:de")


def opened(source: str, split: str, **fields: object):
    data = PairsConfig(source=source, **fields)
    data = KIND.resolve(data, facts(data))
    return data, KIND.examples(data, data, split, NOWHERE)


def facts(data: PairsConfig) -> Facts:
    return KIND.facts(data, data, NOWHERE)


@pytest.mark.parametrize("source", MADE)
def test_what_the_tokens_say_is_the_pairs(source):
    data, examples = opened(source, "validation")
    rows = np.arange(0, len(examples), max(1, len(examples) // 50))
    batch = examples.take(rows)
    texts = examples.of.pairs.take(examples.of.rows[rows])
    tokenizer, separator = ByteTokenizer(), ByteTokenizer.separator
    for i, (source_text, target_text) in enumerate(texts):
        seen = batch["source_segments"][i] > 0
        assert tokenizer.decode(batch["source"][i][seen]) == source_text
        counts = batch["loss_mask"][i] > 0
        assert tokenizer.decode(batch["targets"][i][counts]) == target_text
        assert batch["targets"][i][counts][-1] == separator
        assert batch["tokens"][i][counts].tolist() == [separator, *target_text]
        assert batch["target_bytes"][i].sum() == len(target_text)
    assert {name: x.shape[1:] for name, x in batch.items()} == {
        name: shape for name, (shape, _) in KIND.shapes(data).items()
    }


@pytest.mark.parametrize("source", MADE)
def test_no_meaning_is_in_both_splits(source):
    pairs = sources.find(source)
    train, validation = (opened(source, split)[1].of.rows for split in ("train", "validation"))
    assert len(train) + len(validation) == len(pairs)
    assert not np.intersect1d(pairs.meanings[train], pairs.meanings[validation]).size
    assert len(validation) / len(pairs) == pytest.approx(0.1, abs=0.03)
    data = PairsConfig(source=source)
    assert KIND.shared(data, "validation", data, NOWHERE) == 0
    assert KIND.shared(data, "all", data, NOWHERE) == len(train)


@pytest.mark.parametrize("source", MADE)
def test_no_text_is_longer_than_what_there_is_room_for(source):
    """Also where `longest` looks at a part of what is made."""
    pairs = sources.find(source)
    rows = np.random.default_rng(0).integers(0, len(pairs), 2000)
    for side, longest in zip(zip(*pairs.take(rows), strict=True), pairs.longest, strict=True):
        assert max(map(len, side)) <= longest


def test_what_is_written_out():
    said = dict(sources.find("amounts:de").take(np.arange(8 * 12_345, 8 * 12_346)))
    assert said[b"123.45 EUR"] == b"123,45 Euro"
    assert said[b"123.45 km"] == b"123,45 Kilometer"
    dates = dict(sources.find("weekdays:de").take(np.array([0, 46_353])))
    assert dates == {
        b"1900-01-01": b"Montag, 1. Januar 1900",
        b"2026-11-29": b"Sonntag, 29. November 2026",
    }
    names = set(sources.find("names:en-de").take(np.arange(644)))
    assert (b"Bulgarian", b"Bulgarisch") in names


def test_a_part_of_the_names_is_less():
    whole, part = sources.find("names:en-de"), sources.find("names:en-de", "territories")
    assert len(part) < len(whole)
    assert part.content != whole.content


def test_names_of_several_languages_are_asked_for_and_held_out_with_those_of_two():
    """So that what is held out of two languages is not met in training on more of them."""
    several = sources.find("names:en+de-de+sv")
    texts = several.take(np.arange(len(several)))
    assert (b"Bulgarian", b"Bulgarisch") in texts
    assert (b"Bulgarisch", b"Bulgarisch") in texts
    assert (b"<sv> Bulgarian", b"bulgariska") in texts
    assert (b"<sv> Bulgarisch", b"bulgariska") in texts
    two = PairsConfig(source="names:en-de")
    assert set(sources.find(two.source).take(np.arange(100))) <= set(texts)
    more = PairsConfig(source="names:en+de-de+sv")
    assert KIND.shared(two, "validation", more, NOWHERE) == 0
    assert KIND.shared(two, "train", more, NOWHERE) == facts(two).train_examples


def test_what_is_held_out_of_two_languages_is_not_copied_in_training():
    copies, asked = PairsConfig(source="copies:en+de+sv"), PairsConfig(source="names:en-de")
    train = opened(copies.source, "train")[1].of
    texts = train.pairs.take(train.rows)
    assert all(source == target for source, target in texts)
    held_out = opened(asked.source, "validation")[1].of
    names = dict(held_out.pairs.take(held_out.rows))
    assert not {source for source, _ in texts} & set(names)
    assert {b"Bulgarisch", b"bulgariska"} <= {source for source, _ in texts}
    with pytest.raises(DataError, match="is no part of names"):
        sources.find("copies:en", "language")


def test_pairs_of_longer_texts_are_left_out_and_the_others_stay_where_they_were():
    whole, short = (PairsConfig(source="names:en+de-de+sv", longest=n) for n in (None, 12))
    for split in ("train", "validation"):
        of = [opened(data.source, split, longest=data.longest)[1].of for data in (whole, short)]
        pairs = [one.pairs.take(one.rows) for one in of]
        assert pairs[1] == [pair for pair in pairs[0] if max(map(len, pair)) <= 12]
        assert 0 < len(pairs[1]) < len(pairs[0])
    assert facts(short).sizes["source_len"] == 12
    assert facts(short).content_hash != facts(whole).content_hash


def test_the_length_of_what_is_made_is_not_asked_for():
    with pytest.raises(DataError, match="about as long") as raised:
        sources.find("dates:de", longest=12)
    assert raised.value.member == "longest"


# ---- own files


def test_two_files_of_lines(tmp_path):
    (tmp_path / "a").write_text("one\ntwo\n\nthree\none\n")
    (tmp_path / "b").write_text("eins\nzwei\n\ndrei\neins\n")
    pairs = sources.find(f"lines:{tmp_path}/a={tmp_path}/b")
    assert pairs.take(np.arange(len(pairs))) == [
        (b"one", b"eins"),
        (b"two", b"zwei"),
        (b"three", b"drei"),
    ]
    assert pairs.dropped == 1
    (tmp_path / "b").write_text("eins\nzwei\n\nDREI!\neins\n")
    assert sources.find(f"lines:{tmp_path}/a={tmp_path}/b").content != pairs.content


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_two_columns_of_a_table(tmp_path, suffix):
    import pandas as pd

    frame = pd.DataFrame({"n": ["1", "2"], "en": ["one", "null"], "de": ["eins", "Null"]})
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        frame.to_parquet(path)
    elif suffix == "jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_csv(path, sep="\t" if suffix == "tsv" else ",", index=False)
    pairs = sources.find(f"table:{path}#en,de")
    assert pairs.take(np.arange(2)) == [(b"one", b"eins"), (b"null", b"Null")]
    assert sources.find(f"table:{path}").take(np.arange(1)) == [(b"1", b"one")]


WRONG = {
    "a pair missing": ("lines", "one\ntwo\n", "eins\n", r"a has 2 lines and .*b 1"),
    "an empty partner": ("lines", "one\ntwo\n", "eins\n \n", r"b: line 2 is empty"),
    "no text": ("lines", b"one\n\xff\xff\n", "eins\nzwei\n", r"a: line 2 is not UTF-8"),
    "no column": ("table", "en,fr\none,un\n", "", r'no column "de"'),
    "a hole": ("table", "en,de\none,eins\ntwo,\n", "", r'row 2 has no text in column "de"'),
    "ragged": ("table", "en,de\none,eins,1\n", "", r"row 1 has 3 cells, not 2"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_files_is_one_line_that_names_it(tmp_path, what):
    form, first, second, says = WRONG[what]
    for name, text in (("a", first), ("b", second), ("a.csv", first)):
        data = text if isinstance(text, bytes) else text.encode()
        (tmp_path / name).write_bytes(data)
    source = f"{tmp_path}/a={tmp_path}/b" if form == "lines" else f"{tmp_path}/a.csv#en,de"
    with pytest.raises(DataError, match=says) as raised:
        sources.find(f"{form}:{source}")
    assert "\n" not in str(raised.value).strip()


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("name:en-de", "names"),
        ("names:en-xx", "xx"),
        ("names:en-de+xx", "xx"),
        ("dates:", "no source of pairs"),
        ("lines:/nowhere/a=/nowhere/b", "is no file"),
        ("lines:/nowhere/a", "names one file"),
        ("table:/nowhere/a.doc", "ends in .csv"),
    ],
)
def test_a_source_that_is_none_is_named(source, says):
    with pytest.raises(DataError, match=says):
        sources.find(source)


def test_lengths_that_are_too_short_are_refused():
    data = PairsConfig(source="dates:de", target_len=5)
    with pytest.raises(ConfigError, match=r"data\.target_len=5"):
        KIND.resolve(data, facts(data))
    short, _ = opened("dates:de", "train")
    with pytest.raises(DataError, match=r"raise data\.source_len from 10"):
        KIND.examples(PairsConfig(source="names:en-de"), short, "all", NOWHERE)


# ---- hallucination


def test_what_both_texts_share_is_drawn_and_the_rest_stays():
    """By the alignment of the texts before: what differs is as it was, what was shared is still
    shared, and each character is of the kind that it was.
    """
    texts = sources.find("names:en-de").take(np.arange(1600))
    changed = hallucinated(texts, draws.folded(draws.key("x"), np.arange(1600)), 1.0)
    moved = 0
    for before, after in zip(texts, changed, strict=True):
        (source, target), (new_source, new_target) = (
            [text.decode() for text in pair] for pair in (before, after)
        )
        assert [len(source), len(target)] == [len(new_source), len(new_target)]
        for one, new in ((source, new_source), (target, new_target)):
            assert len(new.encode()) <= len(one.encode())
            assert [c.isupper() for c in one] == [c.isupper() for c in new]
            kinds = [
                [c.isdigit() + 2 * (c.lower() in "aeiou") for c in text] for text in (one, new)
            ]
            assert kinds[0] == kinds[1]
        matcher = difflib.SequenceMatcher(None, source, target, autojunk=False)
        for name, a, b, c, d in matcher.get_opcodes():
            if name == "equal":
                assert new_source[a:b] == new_target[c:d]
            else:
                assert (new_source[a:b], new_target[c:d]) == (source[a:b], target[c:d])
        moved += before != after
    assert moved > 1200
    assert hallucinated([(b"Limburgish", b"Limburgisch")], np.uint64([5]), 1.0)[0][0][-3:] == b"ish"


def test_a_share_of_the_pairs_is_changed_by_their_keys_alone():
    texts, keys = (
        [(b"Kirmanjki", b"Kirmanjki")] * 1000,
        draws.folded(draws.key("y"), np.arange(1000)),
    )
    found = hallucinated(texts, keys, 0.25)
    changed = np.array([pair != texts[0] for pair in found])
    assert changed.mean() == pytest.approx(0.25, abs=0.06)  # four standard errors
    assert len(set(np.array(found)[changed, 0])) == changed.sum()
    order = np.random.default_rng(0).permutation(1000)
    assert hallucinated(texts, keys[order], 0.25) == [found[i] for i in order]
    assert hallucinated([(b"\xff\xfeabc", b"\xff\xfeabc")], keys[:1], 1.0) == [
        (b"\xff\xfeabc",) * 2
    ]


def test_training_alone_sees_drawn_letters():
    (_, plain), (_, other) = (
        opened("names:en-de", "train", hallucinated=share) for share in (0.0, 1.0)
    )
    rows = np.arange(8)
    for name, array in plain.take(rows).items():
        np.testing.assert_array_equal(other.take(rows)[name], array)
    with pytest.raises(ConfigError, match=r"data\.hallucinated=0\.5: dates:de"):
        opened("dates:de", "train", hallucinated=0.5)
    keys = draws.folded(draws.key("z"), rows)
    first, again = (other.take(rows, keys + np.uint64(seen)) for seen in (0, 1))
    assert (first["source"] != again["source"]).any()
    np.testing.assert_array_equal(
        first["source_segments"].sum(1), plain.take(rows)["source_segments"].sum(1)
    )
