"""Runs that differ in their seeds alone, asked together: the mean of what they predict.

Takes finished runs, those of one model by their seeds or the snapshots of one training; gives for
one, two, ... of them the numbers of their validation set, of the averaged predictions
(Lakshminarayanan et al. 2017, arXiv 1612.01474) and, where asked, of the averaged weights (Wortsman
et al. 2022, arXiv 2203.05482). Called by `launch.py ensemble`. Nothing
is trained, and the runs are ordinary ones: a packed group of seeds is an ensemble for free.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from scaling import data
from scaling.config import RunConfig, choices, fingerprint, override, passes
from scaling.costs import sizes
from scaling.devices import sharding
from scaling.errors import UserError
from scaling.families import predictions
from scaling.families.decoding import log_mean
from scaling.metrics.finish import finish
from scaling.records import RunDirectory, parents
from scaling.train.evaluate import join
from scaling.train.opened import Opened, newest

Array = jax.Array
How = Literal["predictions", "weights"]


def alike(
    runs: Iterable[RunDirectory], but: Mapping[str, Any] | None = None
) -> list[list[RunDirectory]]:
    """Finished runs in groups that differ in seeds alone, each of two or more, by their seeds. What
    they begin with may differ in seeds, too.

    but: field -> a value in the place of its own, for others in which they may differ too.
    """
    found: dict[tuple[str, ...], list[tuple[int, RunDirectory]]] = {}
    for run in runs:
        if not run.is_done:
            continue
        config = run.config()
        earlier = parents.before(config, run.path.parent)
        same: tuple[str, ...]
        if earlier is None:  # what it began with is not known but by its fingerprint
            same = (_seedless(config, but),)
        else:
            configs = config, *(one.config() for one in earlier)
            same = tuple(_seedless(one, {**_FROM_NOTHING, **(but or {})}) for one in configs)
        found.setdefault(same, []).append((config.seed, run))
    groups = [sorted(group, key=lambda one: one[0]) for group in found.values()]
    return [[run for _, run in group] for group in groups if len(group) > 1]


def chains(runs: Iterable[RunDirectory]) -> list[list[RunDirectory]]:
    """Finished runs of which each began with the one before it and differs in seeds alone, first to
    last: the snapshots of one training, as of a schedule that starts again (Huang et al. 2017,
    arXiv 1704.00109). A run is in the longest of its chains only.
    """
    found = list[list[RunDirectory]]()
    for run in runs:
        if not run.is_done or (config := run.config()).begins.run is None:
            continue
        same, chain = _seedless(config, _FROM_NOTHING), [run]
        for one in parents.before(config, run.path.parent) or []:
            if _seedless(one.config(), _FROM_NOTHING) != same or not one.is_done:
                break
            chain.insert(0, one)
        if len(chain) > 1:
            found.append(chain)
    begun = {run.path for chain in found for run in chain[:-1]}
    return [chain for chain in found if chain[-1].path not in begun]


_FROM_NOTHING = {"begins.run": None, "begins.folder": None}


def _seedless(config: RunConfig, given: Mapping[str, Any] | None = None) -> str:
    """The same for runs that differ in seeds alone, once both have the fields that are `given`."""
    return fingerprint(override(config, {"seed": 0, "data.seed": 0, **(given or {})}))


def judge(runs: Sequence[RunDirectory], how: How = "predictions") -> list[dict[str, Any]]:
    """A row for the first of the runs, the first two, and so on: what they are, and the numbers of
    the set "val". Raises UserError for a family whose predictions have no mean, and for runs that
    have lost their checkpoints.
    """
    members = [newest(run) for run in runs]
    config, cost = members[0].config, sizes.cost(members[0].config)
    check(config)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *[one.state.evaluated for one in members])
    rows = []
    for count, numbers in enumerate(_measured(members[0], stacked, len(members), how), start=1):
        row = {"members": count, "how": how, "name": runs[0].path.name}
        row |= {"width": config.model.width, "depth": config.model.depth}
        row |= {"params": count * cost.params, "amount": cost.amount, "flops": count * cost.flops}
        rows.append(row | numbers)
    return rows


def check(config: RunConfig) -> None:
    """Raises UserError for a run whose predictions have no mean."""
    record = choices.objective(config.objective)
    if not record.outputs <= {"out", "hidden", "head"} or record.players:
        raise UserError(
            f"predictions of objective.name={config.objective.name} are not averaged; give runs "
            "that classify, predict numbers, or predict tokens"
        )


def _measured(one: Opened, stacked: Any, members: int, how: How) -> list[dict[str, float]]:
    """The numbers of the first of the members, of the first two, and so on; each is asked once."""
    config, model = one.config, one.pieces.model
    objective, fields = one.pieces.objective, choices.objective(config.objective).fields
    assert objective.rows_of is not None  # `check`
    rows_of, labelled = objective.rows_of, "label" in fields

    def first(tree: Any, count: int) -> Any:
        return jax.tree.map(lambda x: x[:count], tree)

    def rows(stacked: Any, batch: Any) -> list[Any]:
        counts = range(1, members + 1)
        if how == "weights":
            means = [jax.tree.map(lambda x: x.mean(axis=0), first(stacked, n)) for n in counts]
            return [objective.rows(model, mean, batch) for mean in means]
        outputs = jax.vmap(lambda params: model.apply({"params": params}, batch))(stacked)
        return [rows_of(averaged(first(outputs, n), labelled), batch).sums for n in counts]

    batches, found = data.eval_batches(config, "val"), []
    with sharding.context(one.plan.mesh):
        call = jax.jit(rows)
        for _, batch in batches.stream(0, len(batches)):
            found.append(jax.device_get(call(stacked, batch)))
    metrics, numbers = passes.metrics(config, "val"), []
    for of_count in zip(*found, strict=True):
        gathered = {name: join([rows[name] for rows in of_count]) for name in of_count[0]}
        finished = finish(gathered, metrics)
        numbers.append({name: float(value) for name, value in finished.items()})
    return numbers


def averaged(outputs: Mapping[str, Any], labelled: bool) -> dict[str, Any]:
    """Outputs [M, B, ...] of M members as those of one model: of numbers the mean, of classes and
    tokens the logarithm of the mean probability, in the place of logits.
    """
    found = jax.vmap(predictions)(outputs)
    if "logits" in found:
        logits_BxLxV = log_mean(found["logits"])
        return {"hidden": logits_BxLxV, "head": jnp.eye(logits_BxLxV.shape[-1])}
    out = found["out"].astype(jnp.float32)
    return {"out": log_mean(out) if labelled else out.mean(axis=0)}
