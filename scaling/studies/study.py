"""From files to runs: a config or an experiment file becomes resolved RunConfigs.

The one place where a config meets the data (`scaling.data.describe`) and the sizes of models
(`scaling.costs.sizes`). Called by `launch.py` and by tests.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import inspect
import pathlib
import re
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from etils import epath

from scaling import data, files, place
from scaling.config import RunConfig, choices, fingerprint, flat, from_dict
from scaling.config import resolve as resolve_lib
from scaling.config.contracts import Facts
from scaling.config.identity import is_fingerprint
from scaling.config.sweep import Study
from scaling.config.teacher import described
from scaling.costs import sizes
from scaling.errors import ConfigError, UserError, nearest
from scaling.records import RunDirectory, tables

PLANNED = "planned"  # in the place of a corpus's content hash


Describe = Callable[[Any, Any], Facts]


def resolve(config: Any, describe: Describe = data.describe) -> RunConfig:
    """A resolved RunConfig from a ConfigDict, nested dict or RunConfig; prepares the corpus. The
    run that it begins from may be given by its directory.
    """
    if not isinstance(config, RunConfig):
        config = from_dict(config)
    return resolve_lib.resolve(_with_parent(config), describe, sizes.size)


def _with_parent(config: RunConfig) -> RunConfig:
    """With the fingerprint of the run in a directory in the place of that."""
    run = config.begins.run
    if run is None or is_fingerprint(run) or not (epath.Path(run) / "config.json").exists():
        return config
    found = RunDirectory(run)
    begins = dataclasses.replace(
        config.begins,
        run=found.record()["fingerprint"],
        folder=config.begins.folder or str(files.absolute(found.path)),
    )
    distill = config.distill
    if distill.weight:
        distill = dataclasses.replace(distill, teacher=described(found.config().model))
    return dataclasses.replace(config, begins=begins, distill=distill)


def resolve_planned(config: Any) -> RunConfig:
    """As `resolve`, but a config whose model states the sizes of the data is taken at its word, and
    no data are read: a run that is planned, and not trained here.

    Raises ConfigError for a length in epochs of data that nobody has read.
    """
    if not isinstance(config, RunConfig):
        config = from_dict(config)
    stated = choices.stated(config.model, config.data)
    if stated is None:
        return resolve(config)
    if config.train.epochs is not None:
        fields = " and ".join(f"model.{name}" for name in stated)
        raise ConfigError(
            f"train.epochs={config.train.epochs} is a length in passes over data, which are not "
            f"read when {fields} is given; leave it unset, or give another length"
        )
    endless = 10**15
    facts = Facts(PLANNED, endless, endless, stated)
    return resolve_lib.resolve(config, lambda data, train: facts, sizes.size)


def load(spec: str, function: str) -> Any:
    """Call `function` of a Python file: "experiments/width.py:debug" calls it with "debug";
    `place.find` says what names a file.

    Raises ConfigError for a file that is not there, has no such function or cannot be run.
    """
    path, _, arg = spec.partition(":")
    file = place.find(path)
    if file is None:
        flag, example = {
            "get_config": ("--config", "configs/lm.py"),
            "get_study": ("--experiment", "experiments/quickstart.py"),
        }[function]
        raise ConfigError(f"{flag}={spec}: {path} is no file; give a path such as {example}")
    module_spec = importlib.util.spec_from_file_location(f"_loaded_{file.stem}", file)
    if module_spec is None or module_spec.loader is None:
        raise ConfigError(f"{path} is no Python file; give a path such as configs/lm.py")
    module = importlib.util.module_from_spec(module_spec)
    place.importable()
    with _mistakes_named(path):
        module_spec.loader.exec_module(module)
    called = getattr(module, function, None)
    if called is None:
        other = {"get_config": "get_study", "get_study": "get_config"}[function]
        what = {"get_config": "a config (--config)", "get_study": "a study (--experiment)"}[other]
        hint = f"; it is {what}" if hasattr(module, other) else ""
        raise ConfigError(f"{path} has no function {function}(arg){hint}")
    try:
        inspect.signature(called).bind(arg)
    except TypeError as error:
        raise ConfigError(f'{path}: define it as {function}(arg: str = "")') from error
    with _mistakes_named(path):
        return called(arg)


@contextlib.contextmanager
def _mistakes_named(path: str) -> Iterator[None]:
    """What a person's file raises, as one line with the place. An error raised within this package
    keeps its traceback: it may be a defect of ours.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        packages = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib"))
        own = [f for f in frames if not f.filename.startswith(("<", *packages))]
        package = str(pathlib.Path(__file__).parent)
        importing = isinstance(error, ImportError | SyntaxError)
        if own and own[-1].filename.startswith(package) and not importing:
            raise
        if isinstance(error, SyntaxError):
            place = f"{error.filename}, line {error.lineno}"
        else:
            place = f"{own[-1].filename}, line {own[-1].lineno}" if own else path
        text = str(error.msg if isinstance(error, SyntaxError) else (*error.args, "")[0])
        # A ConfigDict lists all its fields before it names the nearest.
        text = re.sub(
            r"^'?(.*?) and cannot be added.*(Did you mean.*\?)'?$", r"\1. \2", text, flags=re.DOTALL
        )
        raise ConfigError(f"{place}: {type(error).__name__}: {' '.join(text.split())}") from error


def load_study(spec: str) -> Study:
    """The Study of an experiment file, "path[:arg]"."""
    study = load(spec, "get_study")
    if not isinstance(study, Study):
        raise ConfigError(f"{spec}: get_study must return a Study, not a {type(study).__name__}")
    return study


def load_config(spec: str) -> RunConfig:
    """The RunConfig of a config file, "path[:arg]", unresolved; or that of a run, by its directory:
    of data as they are now, and where it was imported, of a run which is trained.

    Raises ConfigError as `load`.
    """
    if not place.is_run(spec):
        return from_dict(load(spec, "get_config"))
    config = RunDirectory(spec).config()
    sets = {n: dataclasses.replace(one, corpus=None) for n, one in config.evals.sets.items()}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, corpus=None),
        evals=dataclasses.replace(config.evals, sets=sets),
        imported=None,
    )


def size(config: RunConfig) -> dict[str, Any]:
    """What a resolved run is and costs (`sizes.RunCost`), and where its data are prepared, of them
    `unique`, the distinct units that the run can draw from, and what their kind says of them:
    "size" in its config.json. Amounts stand there once more under their unit's name, `tokens` and
    `unique_tokens` for text.
    """
    found = sizes.as_record(config) | data.about(config)
    unique = found.get("unique")
    return found | ({} if unique is None else {f"unique_{config.data.unit}s": unique})


def runs(study: Study, planned: bool = False) -> list[RunConfig]:
    """The study's runs, resolved, each once, in the study's order, and after them those that they
    begin from; with `planned` no data are read where the model states their sizes
    (`resolve_planned`).

    Raises ConfigError for a run that cannot be, or an x or group that their table will not have.
    """
    resolved = resolve_planned if planned else looking_up_once()
    own = _unique(study.configs(resolved))
    _check_axes(study, list(own.values()))
    return list((own | _unique(study.parents(resolved))).values())


def shown(study: Study, configs: list[RunConfig]) -> list[RunConfig]:
    """Those of the study's `runs` that its report is of: not those that are only begun from."""
    if not study.begins:
        return configs
    known = {fingerprint(config): config for config in configs}
    own = _unique(study.configs(looking_up_once()))
    return [known[name] for name in own if name in known]


def looking_up_once() -> Callable[[RunConfig], RunConfig]:
    """`resolve` for the runs of a study, whose data are looked up once."""
    return functools.partial(resolve, describe=functools.cache(data.describe))


def _unique(configs: list[RunConfig]) -> dict[str, RunConfig]:
    found: dict[str, RunConfig] = {}
    for config in configs:
        found.setdefault(fingerprint(config), config)
    return found


def _check_axes(study: Study, configs: list[RunConfig]) -> None:
    """Before anything is trained, not after: the report of the runs has the study's x and group."""
    known = tables.columns(configs)
    numbers = [name for name, number in known.items() if number]
    for field, column, columns in (
        ("x", study.x, [*numbers, "auto"]),
        *(("group", column, list(known)) for column in study.groups),
    ):
        if column in columns:
            continue
        text = f'study {study.name}: {field}="{column}"'
        if column in flat(configs[0]) and column not in known:
            raise ConfigError(
                f"{text} is the same in every run (resolving a run empties what it turns into "
                "steps, such as train.epochs); name what differs, or leave it out"
            )
        of = "column of numbers" if field == "x" else "column"
        raise ConfigError(f"{text} is no {of} of the runs' table{nearest(column, columns)}")
