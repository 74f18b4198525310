"""A split of utterances, by voice, and its examples. Called by `kinds/speech/__init__.py`."""

import functools
import hashlib
from dataclasses import dataclass

import numpy as np

from scaling.data import draws
from scaling.data.kinds.speech.sources import Utterances
from scaling.data.kinds.text.tokenizers import ByteTokenizer


@dataclass(frozen=True)
class Split:
    """The utterances of some voices: those of the validation split are never heard in training."""

    utterances: Utterances
    split: str  # train, validation or all
    fraction: float  # of the voices that is held out

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def rows(self) -> np.ndarray:
        """Numbers of the utterances: int64."""
        return _rows(self.utterances, self.split, self.fraction)


@functools.lru_cache(maxsize=16)
def _rows(utterances: Utterances, split: str, fraction: float) -> np.ndarray:
    if split == "all":
        return np.arange(len(utterances))
    out = held_out(utterances.speakers, fraction)
    is_out = np.array([who in out for who in utterances.speakers])
    (rows,) = (is_out if split == "validation" else ~is_out).nonzero()
    rows.setflags(write=False)
    return rows


def held_out(speakers: list[str], fraction: float) -> set[str]:
    """The share of the voices whose names have the least hashes: at least one, and not all."""
    order = sorted(set(speakers), key=lambda who: hashlib.sha256(who.encode()).digest())
    return set(order[: min(len(order) - 1, max(1, round(fraction * len(order))))])


@dataclass(frozen=True)
class SpeechExamples:
    """The utterances of a split, each a row of samples and its transcript as tokens."""

    of: Split
    samples: int  # room
    transcript_len: int  # room, tokens
    noise: float  # at most, its root mean square over the utterance's

    def __len__(self) -> int:
        return len(self.of)

    def take(self, indices: np.ndarray, keys: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """The numbered utterances: `audio` float32 [B, S] between -1 and 1, `samples` int32 [B], of
        which there is audio, `transcript` int32 [B, T], `transcript_length` int32 [B] and `weight`.

        White noise is drawn anew for each time an utterance is seen in training; in evaluation it
        is always the same.
        """
        utterances, rows = self.of.utterances, self.of.rows[indices]
        sounds, ends, counts = utterances.audio, utterances.ends[rows], utterances.counts[rows]
        texts, encode = utterances.texts, ByteTokenizer().encode
        audio = np.zeros((len(rows), self.samples), np.float32)
        transcript = np.zeros((len(rows), self.transcript_len), np.int32)
        lengths = np.zeros(len(rows), np.int32)
        for i, (row, end, count) in enumerate(zip(rows, ends, counts, strict=True)):
            audio[i, :count] = sounds[end - count : end] / np.float32(32768)
            tokens = encode(texts[row])
            transcript[i, : len(tokens)], lengths[i] = tokens, len(tokens)
        if self.noise:
            keys = draws.folded(draws.key("noise"), rows) if keys is None else keys
            audio += _noise(keys, audio, counts, self.noise)
        return {
            "audio": audio,
            "samples": counts.astype(np.int32),
            "transcript": transcript,
            "transcript_length": lengths,
            "weight": np.ones(len(rows), np.float32),
        }


def _noise(keys: np.ndarray, audio: np.ndarray, counts: np.ndarray, most: float) -> np.ndarray:
    """Gaussian, of a level even between 0 and `most` of each row's; 0 where there is no audio."""
    longest = int(counts.max())
    share = draws.whole(keys ^ draws.key("level"), 1, 1001)[:, 0] / 1000
    level = most * share * np.sqrt(np.square(audio).sum(axis=1) / counts)
    noise = np.zeros_like(audio)
    noise[:, :longest] = level[:, None] * draws.normals(keys, longest)
    noise[np.arange(audio.shape[1])[None] >= counts[:, None]] = 0
    return noise
