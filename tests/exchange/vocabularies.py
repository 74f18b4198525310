"""Tiny tokenizers of the kinds that BERT and T5 have, trained on the spot: WordPiece on lower-cased
words, SentencePiece's unigrams. Read by tests here, and by `theirs.py` where transformers is.
"""

import functools
import pathlib

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

MARKS = 10  # of spans, in T5's
ROOM = 32  # tokens of a row of two texts
# What tokenizers do to them differs: capitals, accents, kinds of white space, letters that are
# spelled as several, signs that no vocabulary has.
LINES = [
    *("", " ", "\t\n", "def main(argv):", "  return  None\n", "Café NAÏVE ﬁne ½ ① Å"),
    *("日本語 文字", "emoji 👍🏽!", "a\u00a0b\u200bc", "\ufeffBOM\r\n", "e\u0301 İ ß", "#" * 120),
    "don't stop, now . Really?",
]


def texts() -> list[str]:
    """Some hundred lines: of this folder's files, and `LINES`."""
    folder = pathlib.Path(__file__).parent
    found = [line for path in sorted(folder.glob("*.py")) for line in path.read_text().splitlines()]
    return [*LINES, *found[:600]]


def word_pieces(lines: list[str]) -> tokenizers.Tokenizer:
    """As BERT's, uncased: 240 tokens."""
    found = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    found.normalizer = normalizers.BertNormalizer(lowercase=True)
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    found.train_from_iterator(
        lines,
        trainers.WordPieceTrainer(vocab_size=240, special_tokens=special, show_progress=False),
    )
    ends = [(name, found.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    found.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    found.decoder = decoders.WordPiece()
    return found


def unigrams(lines: list[str]) -> tokenizers.Tokenizer:
    """As T5's: 200 tokens, and `MARKS` of spans, the first of which is the last."""
    found = tokenizers.Tokenizer(models.Unigram())
    found.normalizer = normalizers.NFKC()
    found.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    special = ["<pad>", "</s>", "<unk>"]
    found.train_from_iterator(
        lines,
        trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    found.add_special_tokens([f"<extra_id_{i}>" for i in reversed(range(MARKS))])
    found.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    found.decoder = decoders.Metaspace(prepend_scheme="always")
    return found


MADE = {"bert_tokens": word_pieces, "t5": unigrams}
# What config.json says of their tokens.
SAID = {
    "bert_tokens": {"bos_token_id": None, "eos_token_id": None, "pad_token_id": 0},
    "t5": {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0},
}


@functools.cache
def made(name: str) -> tokenizers.Tokenizer:
    """That of a name, of `texts`."""
    return MADE[name](texts())
