"""What a table has of one run, by column: read from its directory. No jax in this file."""

from collections.abc import Mapping
from typing import Any

from scaling.config import RunConfig, amounts, choices, contracts, passes
from scaling.costs import energy, privacy
from scaling.errors import DamagedError
from scaling.records import RunDirectory, notes, parents, tasks, timing
from scaling.records.starts import as_trained

SIZES = ("params", "params_non_embedding", "params_active", "amount", "unique", "epochs", "flops")
EPSILON = "epsilon"  # column of runs that train with privacy
BITS = "bits"  # of runs whose weights are used at so many
_WHOLE_BITS = 32.0  # of weights as all are stored
# Columns of runs on data of a known law (`contracts.Truth`); a word, a word, numbers, and further
# ones `true_exponent/<column>`.
_TRUTH = ("truth", "truth_of", "true_floor", "true_floor_se")
# Columns of runs whose samples were judged, by the field of `samples.json`.
JUDGED = {
    "sample_distance": "trained",
    "sample_distance_untrained": "untrained",
    "sample_distance_real": "real",
    "sample_right": "right",
}


def row_of(run: RunDirectory) -> dict[str, Any]:
    """Column -> value, and its config under "config". Of a run whose files cannot be read: the
    status "damaged", a reason that names the file, and little else.
    """
    try:
        return _read(run)
    except DamagedError as error:
        nothing = {"members": 1, "attempts": 0, "spikes": 0, "config": None}
        return {"name": run.path.name, "status": "damaged", "reason": str(error)} | nothing


def _read(run: RunDirectory) -> dict[str, Any]:
    record, status = as_trained(run.record()), run.status()
    config = run.config(record)
    size, made_by = record["size"], record["provenance"]
    unit = config.data.unit
    # Records of an earlier version have the amount under its unit's name alone.
    amount = size.get("amount", size.get(f"{unit}s"))
    unique = size.get("unique") or size.get(f"unique_{unit}s") or config.data.unique_units
    done = status.get("state") == "done"
    final = run.latest(["train", *config.evals.sets]) if done else {}
    earlier = parents.before(config, run.path.parent)
    dirty = "+changes" if made_by.get("dirty") else ""
    row: dict[str, Any] = {
        "fingerprint": record["fingerprint"],
        "name": run.path.name,
        "status": status.get("state", "stopped"),
        "reason": status.get("reason"),
        **{name: size.get(name) for name in SIZES},
        "unit": unit,
        "objective": config.objective.name,
        "amount": amount,
        f"{unit}s": amount,
        "unique": unique,
        f"unique_{unit}s": unique,
        "epochs": amount / unique if amount and unique else None,
        "width": config.model.width,
        "depth": config.model.depth,
        "seed": config.seed,
        "trained": _trained(config),
        "amount_before": parents.amount_before(earlier),
        "params_trained": size.get("params_trained", size.get("params")),
        "branched_from": run.branch().get("trunk"),
        "seconds": status.get("seconds"),
        "members": made_by.get("members", 1),
        "attempts": len(run.attempts()),
        "healed": ", ".join(f"{k}={v}" for k, v in run.changed().items()) or None,
        "spikes": len(run.spikes()),
        "corpus": config.data.corpus,
        "commit": made_by["commit"] + dirty if made_by.get("commit") else None,
        "device": made_by.get("device_kind"),
        "config": config,
    }
    said = notes.read(run)
    row |= {"tags": ",".join(said.tags) or None, "note": said.last}
    for name in config.evals.sets:
        line, suffix = final.get(name, {}), "" if name == "val" else f"/{name}"
        for column in contracts.columns(passes.metrics(config, name)):
            row[column + suffix] = line.get(column)
    seen = [
        name
        for name, s in config.evals.sets.items()
        if s.by == "rows" and s.split == "train" and s.source is None and s.part is None
    ]
    row |= truth(config)
    row[EPSILON] = _epsilon(config, unique)
    row |= _energy(run, config, status, made_by)
    record_of = choices.transform(config.transform)
    row |= {name: final.get("train", {}).get(name) for name in record_of.measures}
    row |= tasks.remembered(config, earlier, final)
    row["teacher_loss"] = parents.teacher_loss(config, run.path.parent)
    row[BITS] = record_of.bits(config.transform) or _WHOLE_BITS
    judged = run.samples()
    row |= {name: judged[of] for name, of in JUDGED.items() if judged.get(of) is not None}
    row["train_loss"] = final.get(seen[0] if seen else "train", {}).get("loss")
    return row


def _energy(
    run: RunDirectory,
    config: RunConfig,
    status: Mapping[str, Any],
    made_by: Mapping[str, Any],
) -> dict[str, Any]:
    """What a run drew, by column; of most devices that are no longer there nothing is known."""
    # Read for its cores alone, which count on CPUs.
    cost = timing.of_run(run) if made_by.get("device_kind") == "cpu" else None
    found = energy.of_run(config, status, made_by, None if cost is None else cost.cores)
    seen = status.get("step", 0) * amounts.units_per_step(config)
    return {
        "joules": found and found.joules,
        "joules_per_unit": found.joules / seen if found and seen else None,
        "grams_co2": found and found.grams,
        "joules_by": found and found.by,
    }


def _trained(config: RunConfig) -> str:
    """ "scratch" of a run that begins with no other, else what was trained: "whole"; or how what it
    knew was held on to.
    """
    held = {"distilled": config.distill.weight, "ewc": config.ewc.weight}
    held["mixed"] = sum(config.mixture.shares.values())
    words = [f"{name} {weight:.3g}" for name, weight in held.items() if weight]
    if config.transform.name != "none" or not (words or config.begins.run):
        of = choices.transform(config.transform).label(config.transform)
        words.insert(0, "scratch" if config.transform.name == "none" else of)
    return ", ".join(words) or "whole"


def _epsilon(config: RunConfig, unique: float | None) -> float | None:
    """Of a run that trained with privacy on so many units of data; None of others."""
    if config.privacy.clip_norm is None or not unique:
        return None
    rate = min(1.0, amounts.units_per_step(config) / unique)
    steps, private = amounts.resolved(config.train.steps), config.privacy
    return privacy.epsilon(rate, private.noise, steps, private.delta)


def truth(config: RunConfig) -> dict[str, Any]:
    """What is known of the law of a run's data, by column; of most data nothing is."""
    known = choices.kind(config.data).truth(config.data)
    if known is None:
        return {}
    said = (known.source, known.of, known.floor, None if known.floor is None else known.floor_error)
    exponents = {f"true_exponent/{name}": value for name, value in known.exponents.items()}
    return dict(zip(_TRUTH, said, strict=True)) | exponents
