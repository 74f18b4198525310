"""The families of models, by name: one package each, which says what its configs are, how large a
model is and how it is scaled (no jax), and beside it the network (`network.py`).

The rest of the house knows a family by its record (`scaling/config/choices.py`) only.
"""

from scaling.config.choices import Family

DEFAULT = "transformer"
FAMILIES: dict[str, Family | str] = {
    "lstm": "scaling.families.lstm:FAMILY",
    "mlp": "scaling.families.mlp:FAMILY",
    "random_features": "scaling.families.random_features:FAMILY",
    "resnet": "scaling.families.resnet:FAMILY",
}
