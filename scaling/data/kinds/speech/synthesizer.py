"""eSpeak NG, by the shared library that the package espeakng-loader brings. A program of its own:

    python synthesizer.py FOLDER < requests.json

Takes {"rate": samples a second, "requests": [[voice, words a minute, pitch, range, text], ...]};
writes `audio.bin`, int16, all utterances one after the other, and `ends.npy`, where each ends.
eSpeak has a state that goes on from one utterance to the next, and a random one: in a process of
its own, from a seed, in one order, the same requests give the same audio, and fewer of them its
beginning. Started by `spoken.py`; it imports nothing of the house, so that any Python runs it.
"""

import ctypes
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

_SYNCHRONOUS, _RATE, _PITCH, _RANGE, _UTF8 = 2, 1, 3, 4, 1  # numbers of speak_lib.h
_QUIET = 200  # of 32767: what is below it at either end is cut off, but for a margin
_MARGIN = 0.03  # seconds


class Synthesizer:
    """The library, opened once a process."""

    def __init__(self) -> None:
        import espeakng_loader

        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = str(espeakng_loader.get_data_path()).encode()
        self.rate = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        self._library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._pieces: list[np.ndarray] = []
        samples = ctypes.POINTER(ctypes.c_short)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, samples, ctypes.c_int, ctypes.c_void_p)
        self._callback = kind(self._take)  # kept: the library does not
        self._library.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: Any, count: int, events: Any) -> int:
        del events
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        return 0

    def say(self, voice: str, speed: int, pitch: int, reach: int, text: str) -> np.ndarray:
        """int16, at `rate`. Raises ValueError where there is no such voice."""
        if self._library.espeak_SetVoiceByName(voice.encode()):
            raise ValueError(f'eSpeak NG has no voice "{voice}"')
        for parameter, value in ((_RATE, speed), (_PITCH, pitch), (_RANGE, reach)):
            self._library.espeak_SetParameter(parameter, value, 0)
        self._pieces.clear()
        said = text.encode() + b"\0"
        self._library.espeak_Synth(said, len(said), 0, 1, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)


def prepared(audio: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """At another rate, without the silence at either end: int16."""
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    changed = resample_poly(audio.astype(np.float32), wanted // common, rate // common)
    (loud,) = (np.abs(changed) > _QUIET).nonzero()
    if not len(loud):
        return np.zeros(0, np.int16)
    margin = int(_MARGIN * wanted)
    kept = changed[max(0, loud[0] - margin) : loud[-1] + margin]
    return np.clip(np.rint(kept), -32768, 32767).astype(np.int16)


def main(folder: Path) -> None:
    """See the head of the file."""
    given = json.load(sys.stdin)
    synthesizer, ends, at = Synthesizer(), [], 0
    with open(folder / "audio.bin", "wb") as file:
        for request in given["requests"]:
            audio = prepared(synthesizer.say(*request), synthesizer.rate, given["rate"])
            file.write(audio.astype("<i2").tobytes())
            at += len(audio)
            ends.append(at)
    np.save(folder / "ends.npy", np.array(ends, np.int64))


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (ImportError, OSError, ValueError, AttributeError) as error:
        sys.exit(str(error))
