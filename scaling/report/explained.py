"""The page of one prediction that is explained: texts and images coloured, in one file.

Takes a `records.explanation.Explanation`; gives HTML that loads nothing. Called by `launch.py
explain`.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, image
from matplotlib.colors import to_rgb

from scaling.records.explanation import Attention, Explanation, Map
from scaling.report.page import now, template_of
from scaling.report.style import COLOURS

TITLES = {
    "gradients": ("Integrated gradients", "the gradient's mean on the way from the baseline"),
    "occlusion": ("Occlusion", "what is lost where a part of the input is the baseline"),
}
_FOR, _AGAINST = (tuple(round(255 * part) for part in to_rgb(colour)) for colour in COLOURS[:2])
_MOST_WEIGHTS = 300_000  # of all attention, that the page holds for pointing at
_LENS = 48  # places of a text, at most, whose lens is shown


def render(found: Explanation) -> str:
    """The page as one HTML document."""
    pieces = [_piece(piece) for piece in found.pieces]
    many = sum(layer.weights.size for layer in found.attention)
    points = bool(pieces) and 0 < many <= _MOST_WEIGHTS and found.image is None
    return template_of("explained.html.jinja").render(
        found=found,
        predicted=_piece(found.predicted),
        truth=None if found.true is None else _piece(found.true),
        shown=None if found.image is None else _png(_grey(found.image)),
        pieces=pieces,
        maps=[_map(one, pieces, found.image) for one in found.maps],
        attention=[head for layer in found.attention for head in _looks(layer)],
        points=points,
        weights=[w for layer in found.attention for w in _numbers(layer.weights)] if points else [],
        lens=_lens(found, pieces),
        columns=list(next(iter(found.layers.values()), {})),
        colours={"for": _FOR, "against": _AGAINST},
        written=now(),
    )


def _piece(text: str) -> str:
    """A text as it stands in a line."""
    for mark, seen in (("\n", "⏎"), ("\t", "⇥"), ("\r", "␍")):
        text = text.replace(mark, seen)
    return text


def _map(one: Map, pieces: Sequence[str], picture: np.ndarray | None) -> Mapping[str, Any]:
    title, what = TITLES[one.method]
    most = float(np.abs(one.scores).max()) or 1.0
    shown: dict[str, Any] = {"title": title, "what": what, "map": one, "image": None, "pieces": []}
    if picture is not None:
        return shown | {"image": _png(_signed(one.scores / most))}
    coloured = [
        {"text": piece, "style": _background(score / most), "score": f"{score:+.3g}"}
        for piece, score in zip(pieces, one.scores, strict=True)
    ]
    return shown | {"pieces": coloured}


def _background(share: float) -> str:
    """Of a number from -1 to 1, as strong as its root."""
    red, green, blue = _FOR if share > 0 else _AGAINST
    return f"background: rgba({red}, {green}, {blue}, {0.85 * abs(share) ** 0.5:.3f})"


def _looks(layer: Attention) -> list[dict[str, Any]]:
    """A small picture of each head's weights, and what it does on random text."""
    found = []
    for i, weights in enumerate(layer.weights):
        facts = []
        if layer.induction is not None and layer.previous is not None:
            facts = [f"induction {layer.induction[i]:.2f}", f"previous {layer.previous[i]:.2f}"]
        picture = _png(colormaps["viridis"](np.sqrt(np.clip(weights, 0, 1)))[..., :3])
        found.append({"name": f"{layer.name}, head {i}", "facts": facts, "image": picture})
    return found


def _numbers(weights: np.ndarray) -> list[list[list[float]]]:
    """[H][L][S], to three digits."""
    return [[[round(float(w), 3) for w in row] for row in head] for head in weights]


def _lens(found: Explanation, pieces: Sequence[str]) -> Mapping[str, Any] | None:
    """The table: a row for each number of blocks, the last on top, a column for each place up to
    the explained one.
    """
    if not found.lens:
        return None
    count = len(found.lens[0].likeliest)
    last = count - 1 if found.place is None else found.place
    places = list(range(max(0, last - _LENS + 1), last + 1))
    rows = [
        {
            "blocks": reading.blocks,
            "predicted": f"{reading.predicted:.3f}",
            "cells": [
                {
                    "text": _piece(reading.likeliest[p]),
                    "style": _background(float(reading.probability[p])),
                    "score": f"{reading.probability[p]:.3f}",
                }
                for p in places
            ],
        }
        for reading in reversed(found.lens)
    ]
    return {"rows": rows, "read": [pieces[p] for p in places] if count > 1 else []}


# ---- pictures


def _grey(picture: np.ndarray) -> np.ndarray:
    """[Y, X, 3] between 0 and 1, of [Y, X, C] with one channel or three."""
    low, high = float(picture.min()), float(picture.max())
    scaled = (picture - low) / max(high - low, 1e-12)
    return np.repeat(scaled[..., :1], 3, axis=-1) if scaled.shape[-1] != 3 else scaled


def _signed(shares: np.ndarray) -> np.ndarray:
    """White at 0, one colour at 1 and another at -1, as strong as the root: [Y, X, 3] of [Y, X]."""
    sides = np.where(shares[..., None] > 0, np.array(_FOR), np.array(_AGAINST)) / 255
    return 1 - np.sqrt(np.abs(shares))[..., None] * (1 - sides)


def _png(picture: np.ndarray) -> str:
    """A data URI; small pictures are enlarged to 128 pixels at least, each of them a square."""
    times = max(1, math.ceil(128 / max(picture.shape[:2])))
    large = np.repeat(np.repeat(picture, times, axis=0), times, axis=1)
    buffer = io.BytesIO()
    image.imsave(buffer, np.ascontiguousarray(np.clip(large, 0, 1)), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
