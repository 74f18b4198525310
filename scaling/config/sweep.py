"""What varies in a study: lists of overrides, built by grid, zip, chain and product.

An override is a flat dict from dotted config fields to values, {"model.width": 64, "seed": 1}; a
sweep is a plain list of them, in a stable order, each once. A `Study` is a base run, a sweep, and
what is to be learned from it; `experiments/*.py` make one and `scaling/studies/study.py` resolves
its runs. No jax in this file.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_collections

from scaling.config import RunConfig, fingerprint, from_dict, left_out, override
from scaling.config.search import Search
from scaling.config.teacher import described
from scaling.errors import ConfigError

Override = dict[str, Any]  # dotted field -> value
Sweep = list[Override]
DELTA = 1e-3  # of a law's Huber loss where a study says nothing else
Condition = Callable[[Override], bool]
Resolve = Callable[[RunConfig], RunConfig]
_PARENT = "begins.run"


def grid(
    axes: Mapping[str, Iterable[Any]] | None = None,
    /,
    *,
    where: Condition | None = None,
    **more: Iterable[Any],
) -> Sweep:
    """Every combination of the axes' values: grid({"model.width": [32, 64]}, seed=range(3)).

    The first axis varies slowest. `where` keeps the overrides for which it is true. Raises
    ConfigError for an axis without values, or one given as a single value.
    """
    sweeps = [[{key: v} for v in values] for key, values in _axes(axes, more).items()]
    return product(*sweeps, where=where)


def zipped(axes: Mapping[str, Iterable[Any]] | None = None, /, **more: Iterable[Any]) -> Sweep:
    """The axes' values side by side: the first of each, the second of each, ...

    Raises ConfigError if they differ in number.
    """
    columns = _axes(axes, more)
    if len({len(values) for values in columns.values()}) > 1:
        counts = ", ".join(f"{key} has {len(values)}" for key, values in columns.items())
        raise ConfigError(f"zipped: the axes must have equally many values, but {counts}")
    rows = zip(*columns.values(), strict=True)
    return chain([dict(zip(columns, row, strict=True)) for row in rows])


def chain(*sweeps: Iterable[Mapping[str, Any]]) -> Sweep:
    """One sweep after the other; an override that was there before is left out."""
    unique: dict[Any, Override] = {}
    for override_ in itertools.chain.from_iterable(sweeps):
        # By type and repr: values may be unhashable, and 1, 1.0 and True are different settings.
        key = frozenset((k, type(v).__name__, repr(v)) for k, v in override_.items())
        unique.setdefault(key, dict(override_))
    return list(unique.values())


def product(*sweeps: Iterable[Mapping[str, Any]], where: Condition | None = None) -> Sweep:
    """Every combination of one override from each sweep, merged; the first sweep varies slowest.

    Without sweeps it is [{}], the base run alone. Raises ConfigError if two of them set the same
    field to different values.
    """
    merged = [_merge(parts) for parts in itertools.product(*map(list, sweeps))]
    if where is not None:
        merged = [o for o in merged if _holds(where, o)]
    return chain(merged)


def with_seeds(
    sweep: Iterable[Mapping[str, Any]],
    seeds: int | Sequence[int],
    where: Condition | None = None,
) -> Sweep:
    """Each override once a seed (a number: 0, 1, ...); where `where` is false, the first only."""
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    if not len(seeds):
        raise ConfigError("with_seeds: no seeds; give a number of at least 1, or a list")
    runs = []
    for o in sweep:
        chosen = seeds if where is None or _holds(where, dict(o)) else seeds[:1]
        runs += product([o], grid(seed=chosen))
    return chain(runs)


def _axes(
    axes: Mapping[str, Iterable[Any]] | None, more: Mapping[str, Iterable[Any]]
) -> dict[str, list[Any]]:
    """Both kinds of axes as lists of plain values."""
    out = {}
    for key, values in itertools.chain((axes or {}).items(), more.items()):
        if key in out:
            raise ConfigError(f"{key} is given twice, by name and in the dict")
        if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
            raise ConfigError(f"{key}={values!r}: give its values as a list")
        # A numpy scalar becomes the Python number it stands for: overrides are stored as JSON.
        out[key] = [v.item() if hasattr(v, "item") else v for v in values]
        if not out[key]:
            raise ConfigError(f"{key} has no values; give at least one, or leave the axis out")
    return out


def _merge(parts: Iterable[Mapping[str, Any]]) -> Override:
    out: Override = {}
    for part in parts:
        for key, value in part.items():
            if key in out and out[key] != value:
                raise ConfigError(
                    f"product: {key} is set twice, to {out[key]!r} and to {value!r}; vary it in "
                    "one sweep only"
                )
            out[key] = value
    return out


def _holds(where: Condition, o: Override) -> bool:
    try:
        return bool(where(o))
    except KeyError as error:
        raise ConfigError(
            f"where: the sweep sets no field {error}; it sets {', '.join(o) or 'none'}"
        ) from error


@dataclass(frozen=True)
class Study:
    """Runs that answer one question, and the law that is read off them.

    A file in `experiments/` defines `get_study(arg)`; "path.py:debug" calls it with "debug"::

        from configs import lm
        from scaling.config.sweep import Study, grid, with_seeds


        def get_study(arg: str = "") -> Study:
            base = lm.get_config(arg)
            base.train.steps = None  # the base's length, in favour of the next line's
            base.train.tokens_per_param = 0.1 if arg == "debug" else 20.0
            widths = (16, 32) if arg == "debug" else (32, 64, 128, 256)
            runs = grid({"model.width": widths, "optim.peak_lr": (1e-3, 3e-3)})
            return Study(
                name="width",
                question="How does the loss fall with the width of the model?",
                base=base,
                runs=with_seeds(runs, 3, where=lambda o: o["model.width"] < 128),
                x="params",
                group="optim.peak_lr",
            )

    `base` may be a ConfigDict; it is read once. Overrides that occur twice are kept once. Raises
    ConfigError for a name that is no folder name, a study without runs, a base that is no config.
    """

    name: str  # of the report's folder: letters, digits, - and _
    base: RunConfig | ml_collections.ConfigDict  # what the runs share; after construction RunConfig
    # Overrides, one a run. "begins.run" may be another run's override: that one is trained before,
    # and is no part of the report unless it is among these.
    runs: Sequence[Mapping[str, Any]]
    question: str = ""  # one sentence, the first of the report
    x: str = "params"  # column of the table that the law runs over
    law: str = "power_floor"  # key of scaling.laws.LAWS
    holdout: bool = True  # fit without the largest x, and score the fit on it
    # Of the Huber loss of the law's relative residuals (1e-3 in Hoffmann et al. 2022, section 3.3).
    # Far below the seeds' noise it is the absolute loss, which an outlier does not move; above it
    # least squares, which make more of runs without one.
    delta: float = DELTA
    # Config field, or up to three; each combination of their values, None among them, is a curve of
    # its own. In figures the first has the colours, the second the markers, the third the lines.
    group: str | Sequence[str] | None = None
    log_x: bool = True  # scale of the figures' x axis
    search: Search | None = None  # what `sweep --tune` may choose, in the place of `runs`

    def __post_init__(self) -> None:
        """Reads the base and the overrides, so that later changes to them change nothing here."""
        if not self.delta > 0:
            raise ConfigError(f"study {self.name}: Study.delta={self.delta!r} must be positive")
        if not re.fullmatch(r"[A-Za-z0-9][\w-]*", self.name):
            raise ConfigError(
                f"Study.name={self.name!r} must be letters, digits, - and _: it names a folder"
            )
        if not isinstance(self.base, RunConfig):
            try:
                object.__setattr__(self, "base", from_dict(self.base))
            except ConfigError as error:
                raise ConfigError(f"study {self.name}, base: {error}") from error
        given = (self.group,) if isinstance(self.group, str) else tuple(self.group or ())
        if len(given) > 3 or len(set(given)) < len(given):
            raise ConfigError(
                f"study {self.name}: group={given!r} must be up to three different fields: a "
                "colour, a marker and a kind of line each"
            )
        object.__setattr__(self, "group", given)
        object.__setattr__(self, "runs", tuple(chain(self.runs)))
        if not self.runs:
            raise ConfigError(f"study {self.name} has no runs")

    def left_out(self) -> list[str]:
        """Of each evaluation set that some run does not have, why (`config.left_out`)."""
        assert isinstance(self.base, RunConfig)
        return [*{line: None for o in self.runs for line in left_out(self.base, o).values()}]

    @property
    def groups(self) -> tuple[str, ...]:
        """The fields that tell curves apart; none: whichever do."""
        return tuple(self.group or ())

    @property
    def begins(self) -> bool:
        """Whether some runs begin from others that are given by their overrides."""
        return any(isinstance(o.get(_PARENT), Mapping) for o in self.runs)

    def configs(self, resolve: Resolve = lambda config: config) -> list[RunConfig]:
        """The runs in the order of `runs`, as `resolve` makes them. A ConfigError names the run it
        is in; without `resolve` there are no runs that begin from others of the study.
        """
        made: dict[str, RunConfig] = {}
        configs = []
        for i, o in enumerate(self.runs):
            try:
                configs.append(self._made(o, resolve, made))
            except ConfigError as error:
                raise ConfigError(f"study {self.name}, run {i} {o}: {error}") from error
        return configs

    def parents(self, resolve: Resolve) -> list[RunConfig]:
        """The runs that others begin from, resolved, each after those that it begins from."""
        made: dict[str, RunConfig] = {}
        for o in self.runs:
            if isinstance(parent := o.get(_PARENT), Mapping):
                self._made(parent, resolve, made)
        return list(made.values())

    def _made(
        self, o: Mapping[str, Any], resolve: Resolve, made: dict[str, RunConfig]
    ) -> RunConfig:
        """The run of an override; `made`: those so far, by the override's text."""
        key = repr(sorted(o.items(), key=lambda item: item[0]))
        if key not in made:
            assert isinstance(self.base, RunConfig)
            own = dict(o)
            told: RunConfig | None = None
            if isinstance(parent := own.get(_PARENT), Mapping):
                told = self._made(parent, resolve, made)
                own[_PARENT] = fingerprint(told)
            config = override(self.base, own)
            if config.distill.weight and told is not None:
                distill = dataclasses.replace(config.distill, teacher=described(told.model))
                config = dataclasses.replace(config, distill=distill)
            made[key] = resolve(config)
        return made[key]
