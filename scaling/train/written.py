"""How right the texts are that a model wrote in an evaluation pass, against the true ones.

Takes what a program of `passes.py` gave of a batch, on the host; gives statistics as
`metrics/finish.py` takes them. Called by `evaluate.py`.
"""

from typing import Any

import numpy as np

from scaling.config import RunConfig
from scaling.metrics import match, transcription, translation
from scaling.train.passes import Program, tokenizer


def scored(config: RunConfig, program: Program, outputs: Any) -> Any:
    """The statistics of what `passes.function` gave of a batch, on the host: those of texts that
    were written are reckoned here, [B, ...] each; others stay as they are.
    """
    if program.name not in ("continuations", "translations", "transcriptions"):
        return outputs
    generated_BxN, wanted_BxN = outputs["generated"], outputs["wanted"]
    if program.name == "continuations":
        lengths = [np.full(len(wanted_BxN), wanted_BxN.shape[1])] * 2
    else:
        lengths = [_text_lengths(x_BxN, program.separator) for x_BxN in (generated_BxN, wanted_BxN)]
    texts = generated_BxN, lengths[0], wanted_BxN, lengths[1], outputs["weight"]
    exact = {"exact_match": match.exact_match(*texts)}
    if program.name == "continuations":
        return exact | {"token_accuracy": match.token_accuracy(*texts)}
    decode = tokenizer(config).decode
    generated, wanted = (
        [
            decode(row[:length].tolist()).decode(errors="replace")
            for row, length in zip(x_BxN, lengths_B, strict=True)
        ]
        for x_BxN, lengths_B in zip((generated_BxN, wanted_BxN), lengths, strict=True)
    )
    if program.name == "transcriptions":
        return exact | transcription.counts(generated, wanted, outputs["weight"])
    return {
        **exact,
        "token_accuracy": match.token_accuracy(*texts),
        **translation.counts(generated, wanted, outputs["weight"]),
    }


def _text_lengths(tokens_BxN: np.ndarray, separator: int) -> np.ndarray:
    """Tokens before the first separator: int64 [B]; all, where there is none."""
    ends_BxN = tokens_BxN == separator
    return np.where(ends_BxN.any(axis=1), ends_BxN.argmax(axis=1), tokens_BxN.shape[1])
