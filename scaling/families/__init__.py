"""The families of models, by name: one package each, which says what its configs are, how large a
model is and how it is scaled (no jax), and beside it the network (`network.py`).

The rest of the house knows a family by its record (`scaling/config/contracts.py`) only.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from scaling.config import choices
from scaling.config.contracts import Family

DEFAULT = "transformer"
FAMILIES: dict[str, Family | str] = {
    "transformer": "scaling.families.transformer:FAMILY",
    "lstm": "scaling.families.lstm:FAMILY",
    "lstm_classifier": "scaling.families.lstm_classifier:FAMILY",
    "feedforward": "scaling.families.feedforward:FAMILY",
    "encoder_decoder": "scaling.families.encoder_decoder:FAMILY",
    "two_towers": "scaling.families.two_towers:FAMILY",
    "fusion": "scaling.families.fusion:FAMILY",
    "speech": "scaling.families.speech:FAMILY",
    "bert": "scaling.families.bert:FAMILY",
    "mlp": "scaling.families.mlp:FAMILY",
    "resnet": "scaling.families.resnet:FAMILY",
    "convnet": "scaling.families.convnet:FAMILY",
    "vit": "scaling.families.vit:FAMILY",
    "masked_autoencoder": "scaling.families.masked_autoencoder:FAMILY",
    "mixer": "scaling.families.mixer:FAMILY",
    "gan": "scaling.families.gan:FAMILY",
    "random_features": "scaling.families.random_features:FAMILY",
    "transe": "scaling.families.transe:FAMILY",
    "distmult": "scaling.families.distmult:FAMILY",
}


def unrolled(config: Any) -> Any:
    """The same model with every layer a module call of its own: neither scanned nor under remat."""
    plain = {"scan_layers": False, "remat": "none"}
    had = {name: value for name, value in plain.items() if hasattr(config, name)}
    return dataclasses.replace(config, **had)


def build(config: Any) -> Any:
    """The flax module of a resolved model config: `module.apply({"params": params}, batch)` gives
    a dict of outputs.
    """
    module: Callable[[Any], Any] = choices.load(choices.family(config).module)
    return module(config)


_OTHER = ("out", "sample", "score", "tags", "spans")


def predictions(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """What a model predicts, of the outputs of any family: logits, or numbers as they stand."""
    if "pointed" in outputs:
        from scaling.objectives.next_token import cross_entropy  # configs are read without jax

        return {"logits": cross_entropy.logits(outputs)}
    for hidden, table in (("hidden", "head"), ("masked", "table")):
        if table in outputs:
            import jax.numpy as jnp  # configs are read without jax

            of_each, cap = outputs[hidden].astype(jnp.float32), outputs.get("softcap")
            logits = jnp.einsum("...d,vd->...v", of_each, outputs[table])
            return {"logits": logits if cap is None else cap * jnp.tanh(logits / cap)}
    return {name: outputs[name] for name in _OTHER if name in outputs}
