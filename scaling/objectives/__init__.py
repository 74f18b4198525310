"""What is minimised, by name: one package each, with its config and record (no jax) and beside them
the computation (`rows.py`): model outputs and batch in, sums and counts out (`objective.py`).

The rest of the house knows an objective by its record (`scaling/config/contracts.py`) only.
"""

from scaling.config.contracts import Objective

DEFAULT = "next_token"
OBJECTIVES: dict[str, Objective | str] = {
    "next_token": "scaling.objectives.next_token:OBJECTIVE",
    "classification": "scaling.objectives.classification:OBJECTIVE",
    "regression": "scaling.objectives.regression:OBJECTIVE",
    "contrastive": "scaling.objectives.contrastive:OBJECTIVE",
    "ctc": "scaling.objectives.ctc:OBJECTIVE",
    "masked_tokens": "scaling.objectives.masked_tokens:OBJECTIVE",
    "masked_passages": "scaling.objectives.masked_passages:OBJECTIVE",
    "tagging": "scaling.objectives.tagging:OBJECTIVE",
    "spans": "scaling.objectives.spans:OBJECTIVE",
    "link_prediction": "scaling.objectives.link_prediction:OBJECTIVE",
    "multitask": "scaling.objectives.multitask:OBJECTIVE",
    "adversarial": "scaling.objectives.adversarial:OBJECTIVE",
    "contrastive_views": "scaling.objectives.contrastive_views:OBJECTIVE",
    "rotation_prediction": "scaling.objectives.rotation_prediction:OBJECTIVE",
    "masked_patches": "scaling.objectives.masked_patches:OBJECTIVE",
}
