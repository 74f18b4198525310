"""The config of text, and of whose tokens others have. No jax in this file."""

from dataclasses import dataclass
from typing import Any, Literal

from scaling.config.marks import added


@dataclass(frozen=True)
class Tokenized:
    """Of texts of one's own, what cuts them."""

    tokenizer: Literal["bytes", "imported"] = added("bytes")
    tokenizer_file: str | None = added(None)  # the imported one, by the hash of its file


def _is_imported(config: Any) -> bool:
    return bool(config.data.tokenizer == "imported")


# Of every kind that takes a tokenizer of others (`Kind.idle`).
IDLE = ((("data.tokenizer_file",), _is_imported, "data.tokenizer=imported"),)


@dataclass(frozen=True)
class TextConfig:
    """Documents of text, and how they become windows of tokens."""

    kind: Literal["text"] = added("text")
    source: str = "stdlib"  # where the documents are; the forms are in `docs/data.md`
    part: str | None = (
        None  # a named part of the source (stdlib: code, docs); None: the source's default
    )
    tokenizer: Literal["bytes", "bpe", "imported"] = (
        "bytes"  # bpe is trained on the train split and cached by content
    )
    tokenizer_file: str | None = added(None)  # the imported one, by the hash of its file
    bpe_vocab: int = 4096  # tokens of the BPE vocabulary, the document separator included
    seq_len: int = 256  # tokens a window
    mask_documents: bool = True  # attention stops at document boundaries
    unique_tokens: int | None = (
        None  # size of the nested training subset, tokens; None: the whole train split
    )
    # Secrets that are planted in the train split, so many once, as many 4 times, 16 times, and on;
    # 0: none. How well a model knows them is an evaluation set by="exposure"
    canaries: int = added(0)
    canary_repeats: int = added(64)  # of those that stand there most often; a power of 4
    validation_fraction: float = 0.05  # share of documents held out, chosen by content hash
    seed: int | None = None  # order of the windows; None: the run's seed
    corpus: str | None = (
        None  # content hash of the prepared corpus; filled by resolve, checked if given
    )

    @property
    def unit(self) -> str:
        """What text is counted in."""
        return "token"

    @property
    def units_per_example(self) -> int:
        """Tokens of a window."""
        return self.seq_len

    @property
    def unique_units(self) -> int | None:
        """Tokens of the nested training subset."""
        return self.unique_tokens
