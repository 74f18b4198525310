"""Beside each pruned matrix "w" lies "w_mask", bool: w is used where it is true, else zero.

The masks are part of the state, so that a run goes on with them to the bit. They are chosen when
the run begins, or again every so many updates while its sparsity rises; what was zero stays zero.
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from scaling.errors import ConfigError
from scaling.optim import subtree
from scaling.optim.roles import Leaf
from scaling.optim.subtree import matches
from scaling.transforms.prune import PruneConfig
from scaling.transforms.transform import Functions, Leaves, check_patterns

_MASK = "_mask"


def functions(config: PruneConfig, leaves: Leaves) -> Functions:
    """The transform of a run."""
    found = leaves()

    def begun(drawn: Any, taken: Any) -> Any:
        if config.end:
            return taken
        masks = _masks(config, found, taken, jnp.float32(config.sparsity))
        return subtree.put(drawn if config.rewind else taken, masks)

    def updated(stored: Any, step: jax.Array, hparams: Mapping[str, Any]) -> Any:
        due, sparsity = rising(config, step, hparams)
        old = subtree.where(stored, lambda path: path.endswith(_MASK))
        masks = jax.lax.cond(due, lambda: _masks(config, found, stored, sparsity), lambda: old)
        return subtree.put(stored, masks)

    return Functions(
        init=lambda params, key: _init(config, found, params),
        apply=_apply,
        trained=lambda path: not path.endswith(_MASK),
        begun=begun,
        updated=updated if config.end else None,
        measured=_measured,
        earlier=config.rewind_to == "begun",
    )


def rising(
    config: PruneConfig, step: jax.Array, hparams: Mapping[str, Any]
) -> tuple[jax.Array, jax.Array]:
    """(whether masks are chosen anew after so many updates, the sparsity that they then have).

    With x the share of the way from `begin` to `end`, the sparsity is s (1 - (1 - x)^3) (Zhu and
    Gupta 2017, eq. 1, from zero).
    """
    total, at = hparams["total_steps"], jnp.asarray(step, jnp.float32)
    first, last = config.begin * total, jnp.ceil(config.end * total)
    due = (step % config.every == 0) & (at >= first) & (at < last) | (at == last)
    share = jnp.clip((at - first) / jnp.maximum(last - first, 1.0), 0.0, 1.0)
    return due, hparams["sparsity"] * (1 - (1 - share) ** 3)


def _init(config: PruneConfig, leaves: Mapping[str, Leaf], params: Any) -> Any:
    boxes = dict(subtree.leaves(params))
    can = [path for path in boxes if leaves[path].ins]
    wanted = check_patterns("transform.modules", config.modules, can)
    meant = [path for path in can if matches(path, wanted)]
    if not meant:
        raise ConfigError("transform.modules is empty; name matrices, such as blocks, or * for all")
    if config.end and config.end <= config.begin:
        raise ConfigError(
            f"transform.end={config.end} must be after transform.begin={config.begin}"
        )
    for path in meant if config.group else ():
        _check_group(config, path, leaves[path])
    added = {
        path + _MASK: nn.LogicallyPartitioned(
            jnp.ones(boxes[path].value.shape, bool), tuple(boxes[path].names)
        )
        for path in meant
    }
    return subtree.nested(boxes | added)


def _check_group(config: PruneConfig, path: str, leaf: Leaf) -> None:
    group, given = config.group or 1, f"transform.group={config.group}"
    if abs(config.sparsity * group - round(config.sparsity * group)) > 1e-6:
        raise ConfigError(
            f"{given} of transform.sparsity={config.sparsity} is no whole number of weights; give "
            "a share that is, such as 0.5"
        )
    if leaf.fan_in % group:
        raise ConfigError(
            f"{given} does not divide the {leaf.fan_in} inputs of {path}; leave it out of "
            "transform.modules"
        )


def _apply(stored: Any) -> Any:
    leaves = dict(subtree.leaves(stored))
    used = {path: leaf for path, leaf in leaves.items() if not path.endswith(_MASK)}
    for path, w in used.items():
        if path + _MASK in leaves:
            used[path] = jnp.where(leaves[path + _MASK], w, 0)
    return subtree.nested(used)


def _measured(stored: Any) -> dict[str, jax.Array]:
    """density: the share of all parameters that no mask takes."""
    leaves = dict(subtree.leaves(stored))
    masks = [leaf for path, leaf in leaves.items() if path.endswith(_MASK)]
    whole = sum(leaf.size for path, leaf in leaves.items() if not path.endswith(_MASK))
    pruned = sum(mask.size - jnp.sum(mask, dtype=jnp.int32) for mask in masks)
    return {"density": 1 - pruned / jnp.float32(whole)}


# ---- which weights


def _masks(
    config: PruneConfig, leaves: Mapping[str, Leaf], stored: Any, sparsity: jax.Array
) -> Any:
    """The tree of the masks of these weights as they are used: what is zero goes first."""
    used, paths = dict(subtree.leaves(_apply(stored))), dict(subtree.leaves(stored))
    size = {path: jnp.abs(used[path]) for path in used if path + _MASK in paths}
    if config.group is None and config.scope == "global":
        kept = _kept(jnp.concatenate([one.ravel() for one in size.values()]), sparsity)
        masks, at = {}, 0
        for path, one in size.items():
            masks[path] = kept[at : at + one.size].reshape(one.shape)
            at += one.size
    else:
        masks = {path: _of_one(config, leaves[path], one, sparsity) for path, one in size.items()}
    return subtree.nested({path + _MASK: mask for path, mask in masks.items()})


def _of_one(config: PruneConfig, leaf: Leaf, size: jax.Array, sparsity: jax.Array) -> jax.Array:
    """Of each matrix of a stack by itself, or of each group of inputs."""
    rest = tuple(i for i in range(size.ndim) if i not in (*leaf.ins, *leaf.outs))
    axes = (*rest, *leaf.outs, *leaf.ins)
    turned = size.transpose(axes)
    count = config.group or leaf.fan_in * leaf.fan_out
    kept = _kept(turned.reshape(-1, count), sparsity).reshape(turned.shape)
    return kept.transpose(tuple(axes.index(i) for i in range(size.ndim)))


def _kept(size: jax.Array, sparsity: jax.Array) -> jax.Array:
    """Along the last axis, all but the smallest share; of equal ones the first go."""
    pruned = jnp.round(sparsity * size.shape[-1]).astype(jnp.int32)
    rank = jnp.argsort(jnp.argsort(size, axis=-1), axis=-1)
    return rank >= pruned
