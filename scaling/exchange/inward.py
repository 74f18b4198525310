"""A folder with a model of others as a run directory: `launch.py import`.

Takes a folder (`config.json`, safetensors, perhaps `tokenizer.json`) and a base config that says
the data; gives a run that is done, its checkpoint the weights and its metrics their evaluation. It
is read like any other: tabled, generated from, begun from (`begins.run`), checked, exported. The
hash of its weights is part of what it is (`RunConfig.imported`).
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from scaling import files
from scaling.config import (
    BeginsConfig,
    DistillConfig,
    EwcConfig,
    RunConfig,
    amounts,
    choices,
    override,
)
from scaling.devices import meshes, sharding
from scaling.errors import UserError
from scaling.exchange import tensors
from scaling.families import beside_weights, exchanged
from scaling.families.exchanged import Architecture
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train.checkpoint import Checkpoints
from scaling.train.loop import Outcome, start_directory, train
from scaling.train.state import TrainState
from scaling.transforms import transform

_FOLDER, _DTYPES, _UNUSED = "imported", "imported_dtypes.json", "imported_unused.safetensors"


@dataclass(frozen=True)
class Kept:
    """What an imported run keeps of where it came from."""

    folder: epath.Path
    config: Mapping[str, Any]  # config.json
    dtypes: Mapping[str, str]  # of their tensors, by name
    unused: Mapping[str, np.ndarray]  # those that no parameter of ours is in: copies, counters


def kept(run: RunDirectory) -> Kept | None:
    """None: the run was trained here."""
    if run.config().imported is None:
        return None
    folder = run.path / _FOLDER
    unused, path = dict[str, np.ndarray](), run.path / _UNUSED
    if path.exists():
        with tempfile.TemporaryDirectory() as here:  # files are mapped, which needs a local one
            local = Path(here) / _UNUSED
            local.write_bytes(path.read_bytes())
            unused = {name: np.array(one) for name, one in tensors.read_file(local).items()}
    return Kept(folder, _json(folder / "config.json"), _json(run.path / _DTYPES), unused)


def bring(
    source: Path,
    workdir: epath.PathLike,
    base: RunConfig,
    change: Callable[[RunConfig], RunConfig],
    tokenizer: bool = True,
) -> tuple[RunDirectory, Outcome]:
    """The run of the model in a folder.

    Args:
      source: the folder.
      base: unresolved; its data, objective, evaluation and optimizer are the run's.
      change: what the command line says of the config.
      tokenizer: take the folder's, if there is one; else the data's own.

    Raises UserError for a folder that is not whole, or a model or tokenizer that is none of ours.
    """
    given = _json(source / "config.json")
    read, of_text = tensors.read(source), choices.kind(base.data).tokenizer is not None
    theirs = beside_weights.tokenizer_files(source) if tokenizer and of_text else {}
    data = adopted(base.data, given, theirs, files.data_dir()) if theirs else base.data
    masks = beside_weights.mask_token(theirs) if theirs else None
    labels = beside_weights.label_names(given)
    if labels is not None and getattr(data, "labels", labels) is None:
        data = dataclasses.replace(data, labels=labels)
    model, architecture = described(given | {"_mask_token": masks}, read)
    weights = architecture.named(read)
    config = dataclasses.replace(
        base,
        model=model,
        data=data,
        transform=choices.new("transform"),
        begins=BeginsConfig(),
        distill=DistillConfig(),
        ewc=EwcConfig(),
        imported=tensors.content_hash(weights),
    )
    config = override(config, _PLAIN)
    if masks is not None and hasattr(config.objective, "mask_token"):
        config = override(config, {"objective.mask_token": masks})
    config = study.resolve(change(config))
    architecture = architecture.of(config.model)
    run = RunDirectory.open(config, workdir)
    if run.status().get("state") != "done":
        with run.lock():
            _fill(run, config, architecture, weights)
            tensors.copy_texts(epath.Path(source), run.path / _FOLDER)
            dtypes = tensors.dtypes(read)
            (run.path / _DTYPES).write_text(json.dumps(dtypes))
            shapes = {path: leaf.shape for path, leaf in transform.leaves(config).items()}
            names = set(exchanged.unused(architecture, weights, shapes))
            unused = {n: read[n] for n in read if {n, architecture.prefix + n} & names}
            if unused:
                tensors.write_file(run.path / _UNUSED, unused, dtypes)
    return run, train(config, workdir, quiet=True)


# Nothing lies between the weights as they came and as they are used. One update says that nobody
# told how many there were.
_PLAIN: dict[str, Any] = {
    "optim.parametrization": "standard",
    "optim.base_width": None,
    "optim.base_depth": None,
    "optim.ema_decay": None,
    "optim.warmup_fraction": 0.0,
    "optim.warmup_steps": None,
    **{f"train.{name}": None for name in ("tokens", "units", "epochs", "flops")},
    **{f"train.{name}": None for name in ("tokens_per_param", "units_per_param")},
    "train.steps": 1,
}


def described(given: Mapping[str, Any], names: Iterable[str]) -> tuple[Any, Architecture]:
    """The model, unresolved, that a config.json is of, whose tensors have these names, and its
    architecture. Raises UserError naming those that there are.
    """
    known = {
        one.name: (family, tables)
        for family in choices.registry("model")
        for tables in [choices.load(choices.record("model", family).exchange)]
        for one in tables
    }
    name = given.get("model_type")
    if name not in known:
        raise UserError(
            f"config.json: model_type={name} is none of the architectures that are known here: "
            f"{', '.join(sorted(known))}"
        )
    family, tables = known[name]
    architecture = exchanged.among(tables, given)
    run = dataclasses.replace(RunConfig(), model=choices.new("model", family))
    values = exchanged.read(architecture, given, names)
    return override(run, {f"model.{k}": v for k, v in values.items()}).model, architecture


def adopted(data: Any, given: Mapping[str, Any], tokenizer: Mapping[str, bytes], root: Path) -> Any:
    """The data with a tokenizer of others, kept in `root`. Raises UserError where it cannot be had.

    Args:
      given: the config.json beside it, which says the token before a text.
      tokenizer: its files by name.
    """
    adopt = choices.kind(data).adopt
    if adopt is None:
        raise UserError(
            f"data.kind={data.kind} has a tokenizer of its own and cannot take tokenizer.json; "
            "leave it out with --notokenizer, or give data of text, labelled, tagged, questions or "
            "pairs"
        )
    return adopt(data, tokenizer, beside_weights.tokens_before(given), root)


def _fill(
    run: RunDirectory,
    config: RunConfig,
    architecture: Architecture,
    weights: Mapping[str, np.ndarray],
) -> None:
    """The run's directory, with the state after its last step, so that it is only evaluated yet."""
    pieces, devices = state_lib.parts(config), jax.devices()
    mesh = meshes.make_mesh(config.mesh, devices)
    meshes.check_batch(config, mesh)
    plan = state_lib.layout(pieces, config, mesh)
    shapes = {path: leaf.shape for path, leaf in transform.leaves(config).items()}
    leaves = exchanged.to_ours(architecture, weights, shapes)
    start_directory(run, config, devices[0].device_kind, len(devices))

    def begin(params: Any) -> TrainState:
        step = jnp.asarray(amounts.resolved(config.train.steps), jnp.int32)
        return TrainState(step, params, pieces.optimizer.init(params), None)

    with sharding.context(mesh), Checkpoints(run.path / "checkpoints", config) as checkpoints:
        params = jax.device_put(subtree.nested(dict(leaves)), plan.shardings.params)
        state = jax.jit(begin, out_shardings=plan.shardings)(params)
        checkpoints.save(amounts.resolved(config.train.steps), state)


def _json(path: Path | epath.Path) -> dict[str, Any]:
    """Raises UserError for a file that is not there, or no object of JSON."""
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); give its folder") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON ({error}); get it once more") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is no object of JSON; get it once more")
    return found
