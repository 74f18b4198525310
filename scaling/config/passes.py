"""How an evaluation set is evaluated, beside going by rows: what a pass needs and what it measures.

A set says it in its field `by`, with a few settings beside it. Called by `resolve.py`, and by
whoever needs the names of a set's numbers. No jax in this file; `scaling/train/passes.py` computes.
"""

import dataclasses
from collections.abc import Mapping

from scaling.config import choices
from scaling.config.contracts import AT_LEAST_ONE, NOT_NEGATIVE, Metric
from scaling.config.pairs import check_attacked
from scaling.config.run import EvalSetConfig, RunConfig
from scaling.errors import ConfigError

# Pass -> the settings of a set that it reads.
SETTINGS: dict[str, tuple[str, ...]] = {
    "rows": (),
    "features": ("fit_batches", "shots", "ridge", "blocks"),
    "generate": ("prompt", "continuation", "copies", "beams"),
    "answers": (),
    "facts": (),
    "exposure": ("repeats",),
    "attack": ("epsilon", "steps"),
    "lens": ("blocks",),
    "induction": (),
}
_RANGES = {
    **dict.fromkeys(
        ("fit_batches", "shots", "prompt", "continuation", "beams", "repeats", "steps"),
        AT_LEAST_ONE,
    ),
    **dict.fromkeys(("ridge", "epsilon", "blocks"), NOT_NEGATIVE),
}


def metrics(config: RunConfig, name: str) -> Mapping[str, Metric]:
    """What is measured of the evaluation set `name`."""
    by = config.evals.sets[name].by
    if by in ("rows", "attack", "lens"):
        return choices.objective(config.objective).metrics
    if by == "features":
        what = f"PROBE_OF_{probed(config).upper()}"
    elif by in ("exposure", "induction", "facts"):
        what = {"exposure": "EXPOSURES", "induction": "INDUCTION", "facts": "FACTS"}[by]
    elif by == "generate" and transcribes(config):
        what = "TRANSCRIPTIONS"
    else:
        what = "TRANSLATIONS" if by == "generate" and translates(config) else "MATCHES"
    return choices.load(f"scaling.metrics.declared:{what}")


def translates(config: RunConfig) -> bool:
    """Whether the model writes the targets of sources, rather than continuing what there is."""
    family, kind = choices.family(config.model), choices.kind(config.data)
    return family.translate is not None and "source" in kind.fields


def transcribes(config: RunConfig) -> bool:
    """Whether the model writes what is said in sounds."""
    family, kind = choices.family(config.model), choices.kind(config.data)
    return family.transcribe is not None and "transcript" in kind.fields


def probed(config: RunConfig) -> str:
    """The field of a batch that a linear probe predicts: "label", or else "targets"."""
    return "label" if "label" in choices.kind(config.data).fields else "targets"


def filled(config: RunConfig, one: EvalSetConfig) -> EvalSetConfig:
    """A set of a resolved model and data with the lengths that it leaves open."""
    if one.by == "exposure" and one.repeats is None:
        known = choices.kind(config.data).repeats(config.data)
        return dataclasses.replace(one, repeats=max(known, default=None))
    window = _window(config)
    if one.by != "generate" or not window or translates(config):
        return one
    prompt, continuation = one.prompt, one.continuation
    if prompt is None:
        prompt = max(1, window - (window // 4 if continuation is None else continuation))
    if continuation is None:
        continuation = max(1, window - prompt)
    return dataclasses.replace(one, prompt=prompt, continuation=continuation)


def _window(config: RunConfig) -> int:
    """Tokens of an example; 0: it has none."""
    shape, _ = choices.kind(config.data).shapes(config.data).get("tokens", ((), ""))
    return shape[0] if len(shape) == 1 else 0


def check(config: RunConfig) -> None:
    """Raises ConfigError where a set of a resolved config has settings that its pass does not read,
    or where model and data do not give what the pass needs.
    """
    for name, one in config.evals.sets.items():
        at = f"evals.sets.{name}"
        _check_settings(at, one)
        if name == "val" and one.by != "rows":
            raise ConfigError(
                f'{at}.by={one.by}: the set "val" is evaluated by rows, for the loss that the run '
                "is judged by; give the pass a set of its own, such as evals.sets.probe"
            )
        if one.by == "features":
            _check_features(at, one, config)
        if one.by == "generate":
            _check_generate(at, one, config)
        if one.blocks is not None:
            _check_blocks(at, one.blocks, config)
        if one.by == "induction":
            _check_induction(f"{at}.by=induction", config)
        if one.by == "attack":
            check_attacked(f"{at}.by=attack", config)
        if one.by in ("answers", "facts", "exposure"):
            _check_places(at, one, config)


def stack(config: RunConfig) -> str | None:
    """What the equal blocks are called that a model's stream passes, as many as its depth; None: it
    has no such blocks.
    """
    try:
        (name,) = choices.family(config.model).roles(config.model).blocks
    except (ConfigError, ValueError):
        return None
    return None if "*" in name else name


def copies(config: RunConfig) -> bool:
    """Whether a model reads places of a text one after the other, so that it could copy some."""
    family, kind = choices.family(config.model), choices.kind(config.data)
    reads = {"tokens"} <= family.reads <= {"tokens", "positions"}
    return family.causal and reads and {"tokens", "loss_mask"} <= kind.fields


def _check_blocks(at: str, blocks: int, config: RunConfig) -> None:
    what, depth = f"{at}.blocks={blocks}", config.model.depth
    if stack(config) is None:
        raise ConfigError(
            f"{what} needs a stack of equal blocks, not given by model.family={config.model.family}"
        )
    if blocks > depth:
        raise ConfigError(f"{what} is more than model.depth={depth}")


def _check_induction(what: str, config: RunConfig) -> None:
    if not copies(config):
        raise ConfigError(
            f"{what} needs a model that reads a text's tokens one after the other, not given by "
            f"model.family={config.model.family} on data.kind={config.data.kind}"
        )


def _check_settings(at: str, one: EvalSetConfig) -> None:
    defaults = {f.name: f.default for f in dataclasses.fields(EvalSetConfig)}
    for field in dict.fromkeys(field for fields in SETTINGS.values() for field in fields):
        value, readers = getattr(one, field), [by for by, own in SETTINGS.items() if field in own]
        if field in _RANGES and value is not None and not _RANGES[field][0](value):
            raise ConfigError(f"{at}.{field}={value} must {_RANGES[field][1]}")
        if one.by not in readers and value != defaults[field]:
            raise ConfigError(
                f"{at}.{field}={value} changes nothing without {at}.by={' or '.join(readers)}; "
                f"give that, or leave it at {defaults[field]}"
            )


def _check_features(at: str, one: EvalSetConfig, config: RunConfig) -> None:
    family, kind = choices.family(config.model), choices.kind(config.data)
    what = f"{at}.by=features"
    if one.blocks is None and "features" not in family.gives:
        raise ConfigError(f"{what} needs features, not given by model.family={config.model.family}")
    shapes, field = kind.shapes(config.data), probed(config)
    # Targets that are numbers of tokens, one at each place, are no targets of an example.
    fits = {"label": ((), "int32"), "targets": (shapes.get("targets", ((0,), ""))[0], "float32")}
    if one.shots is not None and field != "label":
        raise ConfigError(
            f"{at}.shots={one.shots} counts examples of a class, and data.kind={config.data.kind} "
            "has none; leave it unset"
        )
    if shapes.get(field) != fits[field] or len(shapes[field][0]) > 1 or "weight" not in shapes:
        raise ConfigError(
            f"{what} needs a label or targets of each example, not given by data.kind="
            f"{config.data.kind}"
        )


def _check_places(at: str, one: EvalSetConfig, config: RunConfig) -> None:
    what, kind = f"{at}.by={one.by}", choices.kind(config.data)
    if "accuracy" not in choices.objective(config.objective).metrics:
        raise ConfigError(
            f"{what} needs an objective with an accuracy, not given by objective.name="
            f"{config.objective.name}"
        )
    if one.by == "facts" and "fact_bits" not in kind.fields:
        raise ConfigError(
            f"{what} needs facts whose bits are known, not given by data.kind={config.data.kind}"
        )
    if one.by == "exposure" and one.repeats not in (known := kind.repeats(config.data)):
        planted = f"set {at}.repeats to one of {known}" if known else "nothing is"
        raise ConfigError(
            f"{what}: no secret is planted {one.repeats} times in the training data; {planted}"
        )


def _check_generate(at: str, one: EvalSetConfig, config: RunConfig) -> None:
    what = f"{at}.by=generate"
    if translates(config) or transcribes(config):
        _check_translations(at, one)
        needed = "translation" if translates(config) else "transcription"
        choices.load(f"scaling.metrics.{needed}:check")()
        return
    if one.beams != 1:
        raise ConfigError(
            f"{at}.beams={one.beams} is of models that translate or transcribe; leave it at 1"
        )
    if choices.family(config.model).generate is None:
        raise ConfigError(f"{what}: model.family={config.model.family} does not continue sequences")
    window = _window(config)
    if not window or "loss_mask" not in choices.kind(config.data).fields:
        raise ConfigError(f"{what} needs tokens, not given by data.kind={config.data.kind}")
    prompt, continuation = one.prompt or 0, one.continuation or 0
    lengths = f"{at}.prompt={prompt} and {at}.continuation={continuation}"
    if prompt + continuation > window:
        raise ConfigError(f"{lengths} must together not exceed a window of {window} tokens")
    if one.copies and ((prompt + continuation) % 2 or prompt <= continuation):
        raise ConfigError(
            f"{lengths}: with {at}.copies they are one text twice, so that their sum must be even "
            "and the prompt the longer of the two"
        )


def _check_translations(at: str, one: EvalSetConfig) -> None:
    for field, value in (("prompt", one.prompt), ("continuation", one.continuation)):
        if value is not None:
            raise ConfigError(
                f"{at}.{field}={value}: a source is taken whole, as far as the data have room; "
                "leave it unset"
            )
    if one.copies:
        raise ConfigError(f"{at}.copies is of models that continue text; leave it off")
