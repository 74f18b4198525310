"""What a step does to its batch before the model sees it, and where its random numbers come from.

Takes a batch on the device and the step's key, fold_in(key(seed), step); gives the batch changed
as `AugmentConfig` says, with a key for each row where the model drops something
(`scaling/models/dropout.py`) or a student writes (`scaling/transforms/taught.py`). The whole batch
is changed before it is cut into pieces: a row's key goes by its place in the batch, and its partner
is the row before it, so that neither depends on microbatches, mesh or packing. A pure function of
(seed, step, batch), so that a run that goes on after a stop goes on with the same numbers. Called
by `step.py`; in evaluation nothing is changed.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from scaling.config import AugmentConfig, RunConfig
from scaling.models import dropout
from scaling.models.changes import coloured, turned
from scaling.transforms import taught

Array = jax.Array
Batch = dict[str, Array]
_INPUTS = ("image", "features")  # numbers that are changed
_DROPPING = ("dropout", "drop_path", "spec_augment")  # of a model's fields
_DROPS, _ROWS, _WRITES = 1, 2, 3  # what the step's key is folded with
_TURN, _NOISE, _SHARE, _CHOICE, _PLACE, _COLOR = range(6)  # likewise a row's key


def preparation(config: RunConfig) -> Callable[[Batch, Array], Batch] | None:
    """(batch, key of the step) -> batch; None: the run changes nothing, and its program has nothing
    of this.
    """
    drops = any(getattr(config.model, name, 0.0) for name in _DROPPING)
    writes = config.distill.on_policy > 0
    if not drops and not writes and config.augment == AugmentConfig():
        return None
    return functools.partial(_prepared, config.augment, drops, writes)


def _prepared(config: AugmentConfig, drops: bool, writes: bool, batch: Batch, key: Array) -> Batch:
    rows, made = len(next(iter(batch.values()))), dict(batch)
    if config != AugmentConfig():
        made = augmented(config, made, _keys(key, _ROWS, rows))
    if drops:
        made[dropout.FIELD] = jax.random.key_data(_keys(key, _DROPS, rows))
    if writes:
        made[taught.FIELD] = jax.random.key_data(_keys(key, _WRITES, rows))
    return made


def _keys(key: Array, part: int, rows: int) -> Array:
    return jax.random.split(jax.random.fold_in(key, part), rows)


def augmented(config: AugmentConfig, batch: Batch, keys_B: Array) -> Batch:
    """The batch with its images (or vectors) changed, in this order: turned and scaled, coloured,
    noise, mixed. Mixed rows have a `partner_label` int32 [B] and the `share` float32 [B] of their
    own label; targets are mixed themselves.
    """
    made, name = dict(batch), next(n for n in _INPUTS if n in batch)
    x = made[name]

    def of(site: int) -> Array:
        return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, site)

    if config.rotation or config.scale:
        turn = functools.partial(turned, config.rotation, config.scale)
        x = jax.vmap(turn)(x, of(_TURN))
    if config.color:
        x = jax.vmap(functools.partial(coloured, config.color))(x, of(_COLOR))
    if config.noise:
        x += config.noise * jax.vmap(lambda k: jax.random.normal(k, x.shape[1:]))(of(_NOISE))
    if config.mixup or config.cutmix:
        x, share_B = _mixed(config, x, of)
        made["share"] = share_B
        if "label" in batch:
            made["partner_label"] = jnp.roll(batch["label"], 1)
        else:
            y_BxT, share_Bx1 = batch["targets"], share_B[:, None]
            made["targets"] = share_Bx1 * y_BxT + (1 - share_Bx1) * jnp.roll(y_BxT, 1, axis=0)
    return made | {name: x}


def _mixed(config: AugmentConfig, x: Array, of: Callable[[int], Array]) -> tuple[Array, Array]:
    """Rows mixed with the row before them, and the share of their own that they keep [B].

    The share is of a Beta(alpha, alpha). mixup (Zhang et al. 2018, arXiv 1710.09412, equation 1)
    takes the mean with these weights; cutmix (Yun et al. 2019, arXiv 1905.04899, section 3.1) a
    rectangle of the other image with that area, cut off at the edges. With both, each row has one
    of them, by a fair coin.
    """
    partner, keys_B = jnp.roll(x, 1, axis=0), of(_SHARE)
    rows, wide = len(x), (-1, *(1,) * (x.ndim - 1))

    def share(alpha: float) -> Array:
        return jax.vmap(lambda key: jax.random.beta(key, alpha, alpha))(keys_B)

    found, found_B = x, jnp.ones(rows)
    if config.mixup:
        found_B = share(config.mixup)
        share_x = found_B.reshape(wide)
        found = share_x * x + (1 - share_x) * partner
    if config.cutmix:
        sides = x.shape[1], x.shape[2]
        cutting = functools.partial(rectangle, sides)
        inside = jax.vmap(cutting)(share(config.cutmix), of(_PLACE))
        cut = jnp.where(inside[..., None], partner, x)
        cut_B = 1 - inside.mean(axis=(1, 2))
        if not config.mixup:
            return cut, cut_B
        coin_B = jax.vmap(jax.random.bernoulli)(of(_CHOICE))
        found = jnp.where(coin_B.reshape(wide), cut, found)
        found_B = jnp.where(coin_B, cut_B, found_B)
    return found, found_B


def rectangle(sides: tuple[int, int], share: Array, key: Array) -> Array:
    """bool [Y, X]: the pixels of a rectangle with the sides' proportions and 1 - share of their
    area, about a point anywhere.
    """
    centre = jax.random.uniform(key, (2,)) * jnp.array(sides)
    half = jnp.sqrt(1 - share) * jnp.array(sides) / 2
    inside_Y, inside_X = (
        jnp.abs(jnp.arange(sides[i]) + 0.5 - centre[i]) <= half[i] for i in range(2)
    )
    return inside_Y[:, None] & inside_X[None]
