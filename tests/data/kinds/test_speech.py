"""What is spoken, what is recorded, who is held out; and one error for each way a file breaks."""

import dataclasses
import pathlib

import numpy as np
import pytest
import soundfile

from scaling.data.kinds.speech import KIND, SpeechConfig
from scaling.data.kinds.speech.utterances import held_out
from scaling.errors import SourceError

RATE = 8000
SPOKEN = SpeechConfig(utterances=24, noise=0.2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Prepared data of this file."""
    return tmp_path_factory.mktemp("prepared")


def resolved(data: SpeechConfig, root: pathlib.Path) -> SpeechConfig:
    facts = KIND.facts(data, data, root)
    return dataclasses.replace(KIND.resolve(data, facts), corpus=facts.content_hash)


def taken(data: SpeechConfig, split: str, root: pathlib.Path, keys=None) -> dict[str, np.ndarray]:
    examples = KIND.examples(data, data, split, root)
    return examples.take(np.arange(min(4, len(examples))), keys)


def test_voices_of_validation_are_not_heard_in_training(root: pathlib.Path):
    text, found = KIND.inspect(SPOKEN, 99, root)
    voices = [{voice for voice, _ in found[split]["first"]} for split in ("train", "validation")]
    assert all(voices)
    assert not voices[0] & voices[1]
    assert "hours" in text


def test_the_share_of_the_voices_is_that_asked_for_but_none_is_alone():
    names = [str(i) for i in range(20)]
    assert len(held_out(names, 0.25)) == 5
    assert held_out(names, 0.1) < held_out(names, 0.25)
    assert len(held_out(["a", "b"], 0.01)) == len(held_out(["a", "b"], 0.99)) == 1


def test_the_same_utterances_are_spoken_again_and_fewer_are_the_beginning(
    root: pathlib.Path, tmp_path: pathlib.Path
):
    whole, again = (resolved(SPOKEN, place) for place in (root, tmp_path))
    assert whole == again
    batches = [taken(whole, "all", place) for place in (root, tmp_path)]
    fewer = resolved(dataclasses.replace(SPOKEN, utterances=4), root)
    batches.append(taken(fewer, "all", root))
    longest = batches[2]["audio"].shape[1]
    assert batches[0]["audio"].any()
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch["samples"], batches[0]["samples"])
        np.testing.assert_array_equal(batch["audio"][:, :longest], batches[0]["audio"][:, :longest])


def test_noise_is_anew_in_training_and_of_the_level_asked_for(root: pathlib.Path):
    data = resolved(SPOKEN, root)
    keys = np.arange(4, dtype=np.uint64)
    clean = taken(dataclasses.replace(data, noise=0.0, corpus=None), "train", root)["audio"]
    heard = [taken(data, "train", root, keys + np.uint64(4 * i))["audio"] for i in range(2)]
    assert (heard[0] != heard[1]).any()
    np.testing.assert_array_equal(heard[0], taken(data, "train", root, keys)["audio"])
    level = np.linalg.norm(heard[0] - clean, axis=1) / np.linalg.norm(clean, axis=1)
    assert (level < 0.21).all()
    assert level.max() > 0.01
    assert not (heard[0] - clean)[clean.cumsum(axis=1) == clean.sum()].any()


@pytest.mark.parametrize("source", ["dates:en", "names:en", "digits:de"])
def test_other_things_are_spoken_too(source: str, root: pathlib.Path):
    data = resolved(SpeechConfig(source=source, utterances=3), root)
    batch = taken(data, "all", root)
    assert (batch["samples"] > 1000).all()
    assert {name: x.shape[1:] for name, x in batch.items()} == {
        name: shape for name, (shape, _) in KIND.shapes(data).items()
    }


def test_what_nobody_can_speak_is_refused(root: pathlib.Path):
    for source, said in (
        ("digit:en", "did you mean"),
        ("digits:xx", "no language whose digits"),
        ("dates:tlh", "no locale"),
    ):
        with pytest.raises(SourceError, match=said):
            KIND.facts(SpeechConfig(source=source, utterances=2), SpeechConfig(), root)


def tone(path: pathlib.Path, seconds: float = 0.5, rate: int = RATE, channels: int = 1) -> None:
    """A file of a sound that its name decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pitch = 200 + sum(path.stem.encode())
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * rate)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)


@pytest.fixture
def corpus(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two speakers, in LibriSpeech's layout."""
    for speaker in (19, 26):
        folder = tmp_path / "corpus" / str(speaker) / "198"
        names = [f"{speaker}-198-000{i}" for i in range(2)]
        for name in names:
            tone(folder / f"{name}.flac")
        lines = "".join(f"{name} AS NUMBER {name[-1]}\n" for name in names)
        (folder / f"{speaker}-198.trans.txt").write_text(lines)
    return tmp_path / "corpus"


def test_recordings_in_the_layout_of_librispeech(corpus: pathlib.Path, root: pathlib.Path):
    data = resolved(SpeechConfig(source=f"librispeech:{corpus}", noise=0.0), root)
    _, found = KIND.inspect(data, 9, root)
    assert {voice for voice, _ in found["train"]["first"]} in ({"19"}, {"26"})
    batch = taken(data, "all", root)
    assert batch["samples"].tolist() == [RATE // 2] * 4
    texts = [bytes(t[:n].tolist()).decode() for t, n in zip(*_transcripts(batch), strict=True)]
    assert texts == [f"as number {i}" for i in (0, 1, 0, 1)]
    written, _ = soundfile.read(corpus / "19" / "198" / "19-198-0000.flac", dtype="float32")
    np.testing.assert_array_equal(batch["audio"][0], written)


def _transcripts(batch: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return batch["transcript"], batch["transcript_length"]


def test_recordings_beside_their_transcripts_and_in_a_table(
    tmp_path: pathlib.Path, root: pathlib.Path
):
    for name in "abc":
        tone(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.txt").write_text(f"Letter {name}\n")
    (tmp_path / "all.csv").write_text(
        "path,text\n" + "".join(f"{n}.wav,Letter {n}\n" for n in "abc")
    )
    beside, table = (
        taken(resolved(SpeechConfig(source=source, noise=0.0), root), "all", root)
        for source in (f"files:{tmp_path}/*.wav", f"table:{tmp_path}/all.csv#path,text")
    )
    for name, array in beside.items():
        np.testing.assert_array_equal(array, table[name])


def broken(corpus: pathlib.Path, how: str) -> str:
    """A source, after one thing has been broken, in the corpus or beside it."""
    folder = corpus / "19" / "198"
    one, lines = folder / "19-198-0001.flac", folder / "19-198.trans.txt"
    if how == "no file":
        one.unlink()
    elif how == "no line":
        lines.write_text(lines.read_text().splitlines()[0] + "\n")
    elif how == "no text":
        lines.write_text("19-198-0000 ONE\n19-198-0001\n")
    elif how == "another rate":
        tone(one, rate=16000)
    elif how == "two channels":
        tone(one, channels=2)
    elif how == "no audio":
        one.write_bytes(b"not a sound")
    elif how == "no lists":
        return f"librispeech:{corpus.parent / 'nothing'}"
    elif how == "alone":
        tone(corpus / "x.wav")
        return f"files:{corpus}/x.wav"
    elif how == "one speaker":
        return f"librispeech:{folder}"
    return f"librispeech:{corpus}"


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no file", r"19-198-0001\.flac is no file.*pair missing"),
        ("no line", r"19-198-0001\.flac has no line in 19-198\.trans\.txt"),
        ("no text", r"line 2 has no transcript of 19-198-0001"),
        ("another rate", r"has 16000 samples a second, not data\.sample_rate=8000"),
        ("two channels", r"has 2 channels"),
        ("no audio", r"19-198-0001\.flac is no audio that can be read"),
        ("no lists", r"trans\.txt"),
        ("alone", r"x\.wav has no transcript: x\.txt"),
        ("one speaker", r"one voice"),
    ],
)
def test_one_clear_error_for_each_way_recordings_break(
    corpus: pathlib.Path, root: pathlib.Path, how: str, said: str
):
    data = SpeechConfig(source=broken(corpus, how))
    with pytest.raises(SourceError, match=said):
        KIND.facts(data, data, root)


def test_too_little_room_for_an_evaluation_set_is_refused(corpus: pathlib.Path, root: pathlib.Path):
    train = resolved(SpeechConfig(source=f"librispeech:{corpus}"), root)
    with pytest.raises(SourceError, match=r"raise data\.samples"):
        KIND.examples(dataclasses.replace(SPOKEN, corpus=None), train, "all", root)
