"""Whether a model, data, an objective, and the ways to train fit each other.

Raises ConfigError, with the way out, for what cannot go together. Called by `resolve.py` and, of
sets that are attacked, by `passes.py`. No jax in this file.
"""

from typing import Any

from scaling.config import choices
from scaling.config.contracts import SHARE
from scaling.config.run import RunConfig
from scaling.errors import ConfigError, nearest


def check_pairs(config: RunConfig) -> None:
    """Raises ConfigError where the model or the objective reads what nobody gives."""
    family, kind = choices.family(config.model), choices.kind(config.data)
    objective = choices.objective(config.objective)
    model, data = f"model.family={config.model.family}", f"data.kind={config.data.kind}"
    loss = f"objective.name={config.objective.name}"
    for reader, giver, missing in (
        (model, data, family.reads - kind.fields),
        (loss, data, objective.fields - kind.fields),
        (loss, model, objective.outputs - family.gives),
    ):
        if missing:
            raise ConfigError(f"{reader} needs {', '.join(sorted(missing))}, not given by {giver}")
    _check_augment(config)
    _check_mask(config)
    for group in ("distill", "ewc"):
        weight = getattr(config, group).weight
        if weight and objective.soft is None:
            raise ConfigError(
                f"{group}.weight={weight} needs an objective that predicts a label or the next "
                f"token, not {loss}; leave it at 0"
            )
    if config.distill.on_policy and family.generate is None:
        raise ConfigError(
            f"distill.on_policy={config.distill.on_policy} needs a family that writes texts, not "
            f"{model}; leave it at 0"
        )
    if config.ewc.weight and config.begins.new is not None:
        raise ConfigError(
            f"ewc.weight={config.ewc.weight} holds on to what begins.run predicts, and begins.new="
            f"{config.begins.new!r} draws a part of it anew; leave either unset"
        )
    if config.ewc.weight and not choices.transform(config.transform).stored_as_used:
        raise ConfigError(
            f"ewc.weight={config.ewc.weight} holds parameters as they are used, and transform.name="
            f"{config.transform.name} stores others; leave either at its default"
        )
    _check_mixture(config)
    if config.privacy.clip_norm is not None:
        _check_privacy(config)
    if config.federated.clients is not None:
        _check_federated(config, config.federated.clients)
    if config.attack.epsilon:
        check_attacked(f"attack.epsilon={config.attack.epsilon}", config)
    if unread := kind.asks - family.reads:
        raise ConfigError(
            f"{data} is for families that read {', '.join(sorted(unread))}: {model} does not"
        )
    if objective.couples_rows and config.train.microbatches > 1:
        raise ConfigError(
            f"train.microbatches={config.train.microbatches}: {loss} compares the rows of a whole "
            "batch with each other; leave it at 1"
        )


def _check_mask(config: RunConfig) -> None:
    """Raises ConfigError where nothing masks the others, or two things do."""
    model: Any = config.model
    if not hasattr(config.objective, "mask_token") or not hasattr(model, "mask_row"):
        return
    masks = config.objective.mask_token
    if model.mask_row is (masks is not None):
        raise ConfigError(
            f"model.mask_row={model.mask_row} and objective.mask_token={masks}: what masks is a "
            "row of its own, or a token; give that with model.mask_row=False, or leave both unset"
        )


def _check_mixture(config: RunConfig) -> None:
    shares = config.mixture.shares
    for name, share in shares.items():
        if name not in config.evals.sets:
            raise ConfigError(
                f"mixture.shares.{name}: there is no evaluation set evals.sets.{name}"
                f"{nearest(name, config.evals.sets)}; make one of the data that are to be mixed in"
            )
        if not 0 <= share <= 1:
            raise ConfigError(f"mixture.shares.{name}={share} must {SHARE[1]}")
    if (total := sum(shares.values())) >= 1:
        raise ConfigError(
            f"mixture.shares add up to {total:g}; leave some rows to what `data` says, or train on "
            "the other data alone"
        )


def _check_privacy(config: RunConfig) -> None:
    record = choices.objective(config.objective)
    what = f"privacy.clip_norm={config.privacy.clip_norm}"
    if record.players or record.couples_rows:
        raise ConfigError(
            f"{what} clips the gradient of each example, and objective.name="
            f"{config.objective.name} has a loss of several together; leave it unset"
        )
    if config.train.noise_scale or config.mesh.stage > 1:
        field = "train.noise_scale=True" if config.train.noise_scale else "mesh.stage"
        raise ConfigError(f"{what} and {field} cannot go together; leave one of them off")
    if config.mixture.shares or config.ewc.weight:
        field = "mixture.shares" if config.mixture.shares else "ewc.weight"
        raise ConfigError(
            f"{what} and {field} cannot go together: epsilon is said of `data` alone; leave one out"
        )
    if config.augment.mixup or config.augment.cutmix:
        raise ConfigError(f"{what}: augment.mixup and cutmix mix examples; leave them at 0")


def _check_federated(config: RunConfig, clients: int) -> None:
    of, rows = config.federated, config.train.batch_size
    if of.per_round > clients:
        raise ConfigError(
            f"federated.per_round={of.per_round} is more than federated.clients={clients}; lower it"
        )
    if rows % (of.per_round * of.local_steps):
        raise ConfigError(
            f"train.batch_size={rows} is what all clients of a round read, and is not divided by "
            f"federated.per_round={of.per_round} times federated.local_steps={of.local_steps}; "
            "give a multiple"
        )
    players = choices.objective(config.objective).players
    others = {
        "train.microbatches": config.train.microbatches > 1,
        "train.noise_scale": config.train.noise_scale,
        "mixture.shares": bool(config.mixture.shares),
        "mesh.stage": config.mesh.stage > 1,
        "privacy.clip_norm": config.privacy.clip_norm is not None,
        f"objective.name={config.objective.name}": bool(players),
    }
    for name in (name for name, there in others.items() if there):
        raise ConfigError(
            f"federated.clients={clients} and {name} cannot go together; leave one of them off"
        )


def check_attacked(what: str, config: RunConfig) -> None:
    """Raises ConfigError where there is nothing to move, or no one loss to raise."""
    if not {"image", "features", "tokens"} & choices.kind(config.data).fields:
        raise ConfigError(
            f"{what} moves images, vectors or what tokens are looked up as, not given by "
            f"data.kind={config.data.kind}"
        )
    record = choices.objective(config.objective)
    if record.players or record.couples_rows:
        raise ConfigError(
            f"{what} needs a loss of each example by itself, not given by objective.name="
            f"{config.objective.name}"
        )


# What an augmentation changes, and what it needs beside it: fields of a batch, any one of each.
_AUGMENTED: dict[str, tuple[tuple[str, ...], ...]] = {
    "noise": (("image", "features"),),
    "rotation": (("image",),),
    "color": (("image",),),
    "scale": (("image",),),
    "mixup": (("image", "features"), ("label", "targets")),
    "cutmix": (("image",), ("label",)),
}


def _check_augment(config: RunConfig) -> None:
    fields = choices.kind(config.data).fields
    for name, needs in _AUGMENTED.items():
        value = getattr(config.augment, name)
        for one in needs if value else ():
            if not fields & set(one):
                raise ConfigError(
                    f"augment.{name}={value} needs {' or '.join(one)}, not given by data.kind="
                    f"{config.data.kind}; leave it at 0"
                )
        mixes = value and name in ("mixup", "cutmix") and "label" in fields
        if mixes and "label" not in choices.objective(config.objective).fields:
            raise ConfigError(
                f"augment.{name}={value} mixes labels, which objective.name="
                f"{config.objective.name} does not read; leave it at 0"
            )
