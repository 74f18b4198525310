"""Images in rows, as a PNG: what models make, below what their data are.

Takes arrays; gives the bytes of a file. Called by `launch.py samples`.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from scaling.report import style

_INCHES = 7.0  # wide, the labels beside the rows included
_GAP = 0.15  # between two images, of an image's height


def rows_of_images(rows: Mapping[str, np.ndarray]) -> bytes:
    """One row of images for each label.

    Args:
      rows: label -> [N, Y, X, C], of one shape; C is 1 (grey) or 3. The images of the first row say
        what is black and what is white.
    """
    first = next(iter(rows.values()))
    low, high = float(first.min()), float(first.max())
    strips = [_strip((x - low) / max(high - low, 1e-12)) for x in rows.values()]
    height, width = strips[0].shape[:2]
    inches = (_INCHES * 0.8) * height / width + 0.06
    with style.styled():
        figure = Figure(figsize=(_INCHES, inches * len(rows)), layout="constrained")
        FigureCanvasAgg(figure)
        all_axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, label, strip in zip(all_axes, rows, strips, strict=True):
            axes.imshow(strip, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines[:].set_visible(False)
        style.finish(figure)
    return style.encode(figure, "png")


def _strip(images: np.ndarray) -> np.ndarray:
    """[N, Y, X, C] -> [Y, N X and gaps, (C)], between 0 and 1; the gaps are 1, white."""
    images = np.clip(images, 0, 1)
    gap = max(1, round(images.shape[1] * _GAP))
    padded = np.pad(images, [(0, 0), (0, 0), (0, gap), (0, 0)], constant_values=1)
    strip = np.concatenate(list(padded), axis=1)[:, :-gap]
    return strip[..., 0] if strip.shape[-1] == 1 else strip
