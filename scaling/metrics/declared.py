"""The numbers of the passes that are not by rows: labels, units, directions. NumPy only.

`scaling/config/passes.py` says of which pass; tables, figures and the report take names from there.
Their standard errors are over the evaluated examples alone: what a probe was fitted to is given.
"""

from scaling.config.contracts import Metric
from scaling.metrics import exposure, translation
from scaling.metrics.finish import best, gain, mean, r_squared

PROBE_OF_LABEL = {
    "probe_accuracy": Metric("accuracy of a linear probe", better="higher", finish=mean),
}
PROBE_OF_TARGETS = {
    "probe_error": Metric("squared error of a linear probe", "targets²", finish=mean),
    "probe_r_squared": Metric("R² of a linear probe", better="higher", finish=r_squared),
}
MATCHES = {
    "exact_match": Metric("share of exact matches", better="higher", finish=mean),
    "token_accuracy": Metric("share of matching tokens", better="higher", finish=mean),
}
# Of facts whose bits are known before a model sees them.
FACTS = {
    "exact_match": MATCHES["exact_match"],
    "known_bits": Metric(
        "bits known of a fact",
        "bits",
        better="higher",
        finish=mean,
        meaning="its bits to one who knows how facts are drawn, less the model's loss on it",
    ),
    "fact_bits": Metric(
        "bits of a fact", "bits", finish=mean, meaning="known_bits of one who knows every fact"
    ),
}
EXPOSURES = {
    "exposure": Metric("exposure", "bits", better="lower", finish=exposure.exposure),
    "extracted": Metric("share of secrets before all others", finish=exposure.extracted),
}
# Of random text that is read twice (Olsson et al. 2022, arXiv 2209.11895).
INDUCTION = {
    "induction": Metric(
        "induction score of the best head",
        better="higher",
        finish=best,
        meaning="share of its attention on places behind earlier ones of the same token",
    ),
    "previous_token": Metric(
        "attention to the previous token, best head", better="higher", finish=best
    ),
    "copy_loss": Metric("loss on random text, the second time", "nats/token", finish=mean),
    "copy_gain": Metric(
        "loss on random text, the first time less the second",
        "nats/token",
        better="higher",
        finish=gain,
    ),
}
TRANSLATIONS = MATCHES | {
    "chrf": Metric("chrF", better="higher", finish=translation.chrf),
    "bleu": Metric("BLEU", better="higher", finish=translation.bleu),
}
TRANSCRIPTIONS = {
    "word_error": Metric("word error rate", finish=mean),
    "character_error": Metric("character error rate", finish=mean),
    "exact_match": MATCHES["exact_match"],
}
# All of them, by name.
OF_PASSES = (
    PROBE_OF_LABEL
    | PROBE_OF_TARGETS
    | TRANSLATIONS
    | TRANSCRIPTIONS
    | FACTS
    | EXPOSURES
    | INDUCTION
)
