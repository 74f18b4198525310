"""The kinds of data, by name: one package each, which reads a source, splits it by content and
gives examples by number. NumPy only.

The rest of the house knows a kind by its record (`scaling/config/contracts.py`) only.
"""

from scaling.config.contracts import Kind

DEFAULT = "text"
KINDS: dict[str, Kind | str] = {
    "text": "scaling.data.kinds.text:KIND",
    "images": "scaling.data.kinds.images:KIND",
    "pairs": "scaling.data.kinds.pairs:KIND",
    "scenes": "scaling.data.kinds.scenes:KIND",
    "speech": "scaling.data.kinds.speech:KIND",
    "denoising": "scaling.data.kinds.denoising:KIND",
    "passages": "scaling.data.kinds.passages:KIND",
    "labelled": "scaling.data.kinds.labelled:KIND",
    "tagged": "scaling.data.kinds.tagged:KIND",
    "questions": "scaling.data.kinds.questions:KIND",
    "multitask": "scaling.data.kinds.multitask:KIND",
    "facts": "scaling.data.kinds.facts:KIND",
    "triples": "scaling.data.kinds.triples:KIND",
    "vectors": "scaling.data.kinds.vectors:KIND",
    "sequences": "scaling.data.kinds.sequences:KIND",
}
