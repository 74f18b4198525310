"""Random text that is read twice: how well the second time is known, and which head knows it.

Takes a module that can be looked into, parameters as used and a batch of texts; gives statistics as
`metrics/finish.py` takes them. A text's tokens, their places shuffled, stand for random ones: they
are as frequent as the model knows them, and nothing but the first time foretells the second (Olsson
et al. 2022, arXiv 2209.11895). Called by `passes.py` and `scaling/explain`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.metrics import statistics
from scaling.objectives.objective import Loss, Sum
from scaling.train import inside

Array = jax.Array


def twice(batch: Mapping[str, Array]) -> dict[str, Array]:
    """The batch with half of each row's tokens, shuffled alike, two times over. What counts is
    every place but the last.
    """
    tokens_BxL = batch["tokens"]
    length = tokens_BxL.shape[1]
    order = np.random.default_rng(0).permutation(length)[: length // 2]
    half = tokens_BxL[:, order]
    tokens_BxS = jnp.concatenate([half, half], axis=1)
    places_BxS = jnp.broadcast_to(jnp.arange(2 * len(order))[None], tokens_BxS.shape)
    there_B = (batch["loss_mask"] > 0).any(axis=1)
    last = (places_BxS == 2 * len(order) - 1) | ~there_B[:, None]
    own = {name: x for name, x in batch.items() if name != "segment_ids"}
    return own | {
        "tokens": tokens_BxS,
        "targets": jnp.roll(tokens_BxS, -1, axis=1),
        "positions": places_BxS.astype(jnp.int32),
        "loss_mask": 1.0 - last,
        "target_bytes": 1 - last.astype(jnp.int32),
    }


def statistics_of(
    module: Any, objective: Loss, params: Any, batch: Mapping[str, Array]
) -> dict[str, Array]:
    """Of every row: `induction` and `previous_token` [B, A, H, 2], of each head of A attentions
    (none, where the model has no attention), over the second time; `copy_loss` [B, 2] over the
    second time; `copy_gain` [B, 2, 2], the losses of the same tokens the first and the second time.
    """
    read = twice(batch)
    half = read["tokens"].shape[1] // 2
    there_B = (batch["loss_mask"] > 0).any(axis=1).astype(jnp.float32)

    def loss(first: int) -> Array:
        """[B, 2]: of the tokens from the second on, of the text that begins at a place."""
        place = jnp.arange(2 * half)
        counts = (first <= place) & (place < first + half - 1)
        masked = read | {"loss_mask": read["loss_mask"] * counts[None]}
        found: Any = objective.rows(module, params, masked)["loss"]
        assert isinstance(found, Sum)
        return jnp.stack([found.total, found.count], axis=-1)

    before, again = loss(0), loss(half)
    found = {"copy_loss": again, "copy_gain": jnp.stack([before, again], axis=1)}
    weights = list(inside.attention(module, params, read).values())
    if weights:
        of = {
            "induction": [statistics.matching(w, read["tokens"], half) for w in weights],
            "previous_token": [statistics.back(w, half) for w in weights],
        }
        wide = there_B[:, None, None, None]
        found |= {name: jnp.stack(each, axis=1) * wide for name, each in of.items()}
    return found
