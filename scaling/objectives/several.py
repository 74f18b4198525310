"""One call of a model on several forms of each image. Called by objectives that make them."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from scaling.models import dropout
from scaling.objectives.objective import Array, Batch, Model


def out_of(model: Model, batch: Batch, image_BxVxYxXxC: Array) -> Array:
    """The model's `out` of V forms of each row's image: float32 [B, V, O]. What training drops is
    drawn anew for each.
    """
    rows, forms = image_BxVxYxXxC.shape[:2]

    def flat(x: Array) -> Array:
        return x.reshape(rows * forms, *x.shape[2:])

    fields: dict[str, Any] = {"image": flat(image_BxVxYxXxC)}
    keys = dropout.keys_of(batch)
    if keys is not None:
        drawn = [keys.of_layer(form).data_Bx2 for form in range(forms)]
        fields[dropout.FIELD] = flat(jnp.stack(drawn, axis=1))
    outputs: Mapping[str, Any] = model(fields)
    return outputs["out"].astype(jnp.float32).reshape(rows, forms, -1)


def counted(batch: Batch) -> tuple[Array, Array]:
    """(image, weight), float32: what stands in a row without weight has no part in anything, be it
    NaN.
    """
    weight_B = batch["weight"].astype(jnp.float32)
    return jnp.where((weight_B > 0)[:, None, None, None], batch["image"], 0), weight_B
