"""The losses of a generator and of a discriminator, and the distance of their features.

Takes a model that makes a `sample` of a key and gives `score` and `features` of an image, and a
batch with image float32 [B, Y, X, C] and weight float32 [B] (0: a row that only fills up the
batch); gives `Rows` of two players, float32. Beside each real image stands one that is made, of the
same class where the model is conditional.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from scaling.metrics import statistics
from scaling.objectives.adversarial import AdversarialConfig
from scaling.objectives.objective import Array, Batch, Loss, Model, Rows, Sum

# Features whose second moments are kept of each row apart; of more, of so many rows together.
_NARROW, _ROWS = 64, 16


def rows(config: AdversarialConfig) -> Loss:
    """With s(x) the score of an image x, and G of a sample that is made:

    - non_saturating (Goodfellow et al. 2014, section 3): the discriminator minimises the
      cross-entropy softplus(-s(x)) + softplus(s(G)), in nats, 2 ln 2 where it knows nothing; the
      generator softplus(-s(G)).
    - hinge (Lim and Ye 2017, arXiv 1705.02894): max(0, 1 - s(x)) + max(0, 1 + s(G)), and -s(G).

    `r1` adds r1 / 2 times the squared gradient of s at x to what the discriminator minimises
    (Mescheder et al. 2018, arXiv 1801.04406, equation 9); the reported loss is without it.
    """

    def rows_by(model: Model, batch: Batch, keys_B: Array, hparams: Mapping[str, Any]) -> Rows:
        weight_B = batch["weight"].astype(jnp.float32)
        # What stands in a row without weight has no part in anything, be it NaN.
        image = jnp.where((weight_B > 0)[:, None, None, None], batch["image"], 0)
        known = {"label": batch["label"]} if "label" in batch else {}
        sample = model({"key": keys_B, **known})["sample"]

        def seen(x: Array) -> Mapping[str, Any]:
            return model({"image": x, "key": None, **known})

        real, made = seen(image), seen(sample)
        real_B, made_B = real["score"], made["score"]
        if config.form == "hinge":
            discriminator_B = jax.nn.relu(1 - real_B) + jax.nn.relu(1 + made_B)
            generator_B = -made_B
        else:
            discriminator_B = jax.nn.softplus(-real_B) + jax.nn.softplus(made_B)
            generator_B = jax.nn.softplus(-made_B)
        sums: dict[str, Sum | Array] = {
            "loss": Sum(discriminator_B * weight_B, weight_B),
            "generator_loss": Sum(generator_B * weight_B, weight_B),
            "feature_distance": _moments(real["features"], made["features"], weight_B),
        }
        if config.r1:
            slope = jax.grad(lambda x: seen(x)["score"].sum())(image)
            discriminator_B += hparams["r1"] / 2 * jnp.sum(slope**2, axis=(1, 2, 3))
        minimised = {"discriminator": discriminator_B, "generator": generator_B}
        return Rows({n: x_B * weight_B for n, x_B in minimised.items()}, {}, sums)

    return Loss(None, {}, rows_by=rows_by, fixed={"r1": config.r1})


def _moments(real_BxF: Array, made_BxF: Array, weight_B: Array) -> Array:
    """[P, 2, 1 + F, 1 + F] of P pieces of the rows: `statistics.second_moments` of both."""
    rows, features = real_BxF.shape
    each = 1 if features <= _NARROW else math.gcd(rows, _ROWS)
    found = [
        statistics.second_moments(statistics.augmented(x_BxF), weight_B, each)
        for x_BxF in (real_BxF, made_BxF)
    ]
    return jnp.stack(found, axis=1)
