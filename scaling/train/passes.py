"""What an evaluation set's pass computes of a batch, and what it has fitted before.

Takes the pure pieces of a run; gives functions of parameters and batch, which `evaluate.py`
compiles for one run and `packed.py` for many, and the fit on the host between two of them.
`scaling/config/passes.py` says what a pass needs, `scaling/metrics/declared.py` what it measures.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from scaling import data, files
from scaling.config import RunConfig, amounts, choices, passes
from scaling.data import Batches
from scaling.families.decoding import GREEDY
from scaling.metrics import linear_probe, statistics
from scaling.objectives import objective
from scaling.objectives.objective import Sum
from scaling.train import circuits, inside
from scaling.train.attack import attacked, moved
from scaling.train.state import Parts
from scaling.train.step import Batch
from scaling.transforms import transform

# (params, batch, *given) -> arrays; `given` is what was fitted before.
Function = Callable[..., Any]


Name = Literal[
    "rows",
    "moments",
    "scores",
    "answers",
    "facts",
    "exposure",
    "attack",
    "continuations",
    "translations",
    "transcriptions",
    "lens",
    "induction",
]


@dataclass(frozen=True)
class Program:
    """Which function of a batch is to be computed."""

    name: Name
    given: int = 0  # things that were fitted before
    prompt: int = 0  # tokens
    continuation: int = 0  # tokens
    copies: bool = False
    separator: int = 0  # the token behind a text that is written
    begins: int | None = None  # and before it; None: the same
    beams: int = 1
    epsilon: float = 0.0  # of an attack
    steps: int = 0
    blocks: int | None = None  # that are applied; of a probe, behind which the stream is read


# (program, slot -> batches, slot -> given) -> of each batch, slot -> arrays on the host, of the
# slots whose batches have not ended. A run alone is slot 0.
Each = Callable[[Program, Mapping[int, Batches], Mapping[int, Any]], Iterator[dict[int, Any]]]


@dataclass(frozen=True)
class EvalSet:
    """What is read for an evaluation set of a run."""

    batches: Batches
    fit: Batches | None  # what its probe is fitted to, if it has one


def eval_set(config: RunConfig, name: str) -> EvalSet:
    """The set `name` of a resolved run. Raises DataError (`data.eval_batches`)."""
    probes = config.evals.sets[name].by == "features"
    fit = data.probe_batches(config, name) if probes else None
    return EvalSet(data.eval_batches(config, name), fit)


def program_of(config: RunConfig, name: str) -> Program:
    """What is computed of the batches of the set `name`."""
    one = config.evals.sets[name]
    if one.by == "features":
        return Program("scores", given=1, blocks=one.blocks)
    if one.by == "generate" and (written := _written(config)) is not None:
        program, field = written
        (length,), _ = choices.kind(config.data).shapes(config.data)[field]
        words = tokenizer(config)
        ends = {"separator": words.separator, "begins": words.begins}
        return Program(program, 0, 0, length, beams=one.beams, **ends)
    if one.by == "generate":
        lengths = amounts.resolved(one.prompt), amounts.resolved(one.continuation)
        return Program("continuations", 0, *lengths, one.copies)
    if one.by == "attack":
        return Program("attack", epsilon=one.epsilon, steps=one.steps)
    if one.by == "lens":
        return Program("lens", blocks=one.blocks)
    return Program(one.by)


def _written(config: RunConfig) -> tuple[Name, str] | None:
    """The program of a model that writes whole texts, and the field of the true ones; None: it
    continues texts.
    """
    if passes.translates(config):
        return "translations", "targets"
    return ("transcriptions", "transcript") if passes.transcribes(config) else None


def function(pieces: Parts, config: RunConfig, program: Program) -> Function:
    """A pure function. Statistics are {metric: [B, ...]}, as `metrics/finish.py` takes them.

    rows: what the objective measures. moments: (sums [N, N], mean [F]) of a whole batch
    (`statistics.centred_moments`). scores: statistics of the probe whose coefficients are given.
    answers: how many rows are right in all that counts. facts: and the bits known. exposure: the
    losses of secrets. attack, lens: as rows. induction: `circuits.statistics_of`. Others: what
    `written.scored` takes.
    """
    model, labelled = pieces.model, passes.probed(config) == "label"
    alone = objective.build(config.objective)  # without a teacher's predictions

    def rows(params: Any, batch: Batch) -> Any:
        with moved(batch) as batch:
            return pieces.objective.rows(model, params, batch)

    def attack(params: Any, batch: Batch) -> Any:
        def loss(batch: Batch) -> jax.Array:
            return jnp.sum(cast(Sum, rows(params, batch)["loss"]).total)

        return rows(params, attacked(loss, batch, program.epsilon, program.steps))

    def lens(params: Any, batch: Batch) -> Any:
        depth, module = config.model.depth, inside.plain(config)
        cut = inside.Cut(module, depth if program.blocks is None else program.blocks, depth)
        return alone.rows(cut, transform.used(config, params), batch)

    def induction(params: Any, batch: Batch) -> Any:
        used = transform.used(config, params)
        return circuits.statistics_of(inside.plain(config), alone, used, batch)

    def features(params: Any, batch: Batch) -> jax.Array:
        if program.blocks is None:
            return model.apply({"params": params}, batch)["features"].astype(jnp.float32)
        module, used = inside.plain(config), transform.used(config, params)
        behind = inside.stream(module, used, batch, program.blocks).astype(jnp.float32)
        return behind.mean(axis=tuple(range(1, behind.ndim - 1)))

    def moments(params: Any, batch: Batch) -> Any:
        labels: Any = getattr(config.data, "classes", None)
        targets_BxT = jax.nn.one_hot(batch["label"], labels) if labelled else batch["targets"]
        weight_B = batch["weight"].astype(jnp.float32)
        return statistics.centred_moments(features(params, batch), targets_BxT, weight_B)

    def scores(params: Any, batch: Batch, coefficients: jax.Array) -> Any:
        weight_B, features_BxF = batch["weight"].astype(jnp.float32), features(params, batch)
        if labelled:
            hits_Bx2 = statistics.hits(features_BxF, batch["label"], weight_B, coefficients)
            return {"probe_accuracy": hits_Bx2}
        out_BxT = statistics.read_out(features_BxF, coefficients)
        parts_BxTx4 = statistics.explained(out_BxT, batch["targets"], weight_B)
        return {
            "probe_error": jnp.stack([parts_BxTx4[..., 3].sum(axis=1), weight_B], axis=1),
            "probe_r_squared": parts_BxTx4,
        }

    def continuations(params: Any, batch: Batch) -> Any:
        text_BxS, weight_B = _text(batch, program)
        prompt_BxP, new = text_BxS[:, : program.prompt], program.continuation
        generate, key = choices.load(choices.family(config.model).generate), jax.random.key(0)
        used = transform.used(config, params)
        found_BxS = generate(config.model, used, prompt_BxP, new, key, GREEDY)
        return {
            "generated": found_BxS[:, program.prompt :],
            "wanted": text_BxS[:, program.prompt :],
            "weight": weight_B,
        }

    def answers(params: Any, batch: Batch) -> Any:
        # Greedy decoding writes what counts exactly where every place of it is right behind the
        # true ones before it.
        right: Any = rows(params, batch)["accuracy"]
        weight_B = right.count > 0
        found = {
            "exact_match": ((right.total >= right.count) & weight_B, weight_B),
            "token_accuracy": (right.total, right.count),
        }
        return {k: jnp.stack(v, axis=1).astype(jnp.float32) for k, v in found.items()}

    def known(params: Any, batch: Batch) -> Any:
        loss: Any = rows(params, batch)["loss"]
        weight_B = (loss.count > 0).astype(jnp.float32)
        bits = {"known_bits": batch["prior_bits"] - loss.total / math.log(2)}
        bits["fact_bits"] = batch["fact_bits"]
        found = {k: jnp.stack([bits_B * weight_B, weight_B], axis=1) for k, bits_B in bits.items()}
        return {"exact_match": answers(params, batch)["exact_match"]} | found

    def exposures(params: Any, batch: Batch) -> Any:
        loss: Any = rows(params, batch)["loss"]
        weight_B = (loss.count > 0).astype(jnp.float32)
        loss_B = loss.total / jnp.maximum(loss.count, 1)
        counted_Bx2xN = statistics.placed(loss_B, batch["planted"], weight_B)
        return {"exposure": counted_Bx2xN, "extracted": counted_Bx2xN}

    def translations(params: Any, batch: Batch) -> Any:
        translate = choices.load(choices.family(config.model).translate)
        found_BxN, _ = translate(
            config.model,
            transform.used(config, params),
            batch["source"],
            batch["source_segments"],
            program.continuation,
            program.separator,
            program.beams,
            program.begins,
        )
        weight_B = (batch["loss_mask"] > 0).any(axis=1).astype(jnp.float32)
        return {"generated": found_BxN, "wanted": batch["targets"], "weight": weight_B}

    def transcriptions(params: Any, batch: Batch) -> Any:
        transcribe = choices.load(choices.family(config.model).transcribe)
        used = transform.used(config, params)
        found_BxN, _ = transcribe(config.model, used, batch, program.continuation, program.beams)
        place_1xT = jnp.arange(batch["transcript"].shape[1])[None]
        is_text_BxT = place_1xT < batch["transcript_length"][:, None]
        wanted_BxT = jnp.where(is_text_BxT, batch["transcript"], program.separator)
        return {"generated": found_BxN, "wanted": wanted_BxT, "weight": batch["weight"]}

    of: dict[str, Function] = {
        "rows": rows,
        "attack": attack,
        "moments": moments,
        "scores": scores,
        "continuations": continuations,
        "translations": translations,
        "transcriptions": transcriptions,
        "answers": answers,
        "facts": known,
        "exposure": exposures,
        "lens": lens,
        "induction": induction,
    }
    return of[program.name]


def _text(batch: Batch, program: Program) -> tuple[jax.Array, jax.Array]:
    """Prompt and true continuation int32 [B, S], and a weight [B]: 0 where it is not one document,
    all of which is there.
    """
    length = program.prompt + program.continuation
    length = length // 2 if program.copies else length
    text_BxS = batch["tokens"][:, :length]
    counts_B = (batch["loss_mask"][:, :length] > 0).all(axis=1)
    if "segment_ids" in batch:
        counts_B &= (batch["segment_ids"][:, :length] == batch["segment_ids"][:, :1]).all(axis=1)
    if program.copies:
        text_BxS = jnp.concatenate([text_BxS, text_BxS], axis=1)
    return text_BxS, counts_B.astype(jnp.float32)


def tokenizer(config: RunConfig) -> Any:
    """Of the texts that a run reads and writes."""
    make: Any = choices.kind(config.data).tokenizer
    return make(config.data, files.data_dir())


def fitted(
    configs: Mapping[int, RunConfig], sets: Mapping[int, EvalSet], name: str, each: Each
) -> dict[int, np.ndarray]:
    """Slot -> the coefficients [1 + F, T] of the probe of the set `name`, float32; of a set that
    needs none, nothing.
    """
    fits = {slot: one.fit for slot, one in sets.items() if one.fit is not None}
    sums: dict[int, Any] = dict.fromkeys(fits, 0.0)
    features = 0
    blocks = next((configs[slot].evals.sets[name].blocks for slot in fits), None)
    for of_batch in each(Program("moments", blocks=blocks), fits, {}) if fits else ():
        for slot, (centred, mean) in of_batch.items():
            sums[slot] = sums[slot] + linear_probe.uncentred(centred, mean)
            features = len(mean)
    return {
        slot: linear_probe.relative(total, features, configs[slot].evals.sets[name].ridge)
        for slot, total in sums.items()
    }


def fetched(calls: Iterable[Any], most: int = 2) -> Iterator[Any]:
    """The results of calls on the host, `most` further ones dispatched by then."""
    pending: list[Any] = []
    for call in calls:
        pending.append(call)
        if len(pending) > most:
            yield jax.device_get(pending.pop(0))
    for call in pending:
        yield jax.device_get(call)
