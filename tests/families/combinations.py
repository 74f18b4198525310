"""Every registered family with every kind of data and every objective that fits, each at a tiny
size, with what the tests of this folder share of it: parameters, compiled programs, trained runs.

A new family, kind or objective is among them by being registered. A family takes `GENERIC` unless
it has an entry in `MODELS`; a kind of data needs an entry in `DATA`.
"""

import functools
import itertools
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from scaling import data
from scaling.config import RunConfig, choices, override, programs, to_dict
from scaling.config.pairs import check_pairs
from scaling.devices import meshes, sharding
from scaling.errors import ConfigError
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.placement import place
from scaling.train.step import compile_steps, gradients

HERE = pathlib.Path(__file__).parent
# Fields of the model, by family: every size divides by 4, so that meshes can cut it.
GENERIC: dict[str, Any] = {"width": 8, "depth": 2}
MODELS: dict[str, dict[str, Any]] = {
    "transformer": GENERIC | {"heads": 4, "kv_heads": 2, "head_dim": 4},
    "feedforward": GENERIC | {"context": 16},  # a whole row
    "random_features": {"width": 16},
    "transe": {"width": 8},
    # Of products of three small numbers a few steps change little.
    "distmult": {"width": 32, "init_scale": 1.5},
    "vit": GENERIC | {"heads": 4},
    "resnet": GENERIC | {"depth": 2, "stages": "1-1"},
    **dict.fromkeys(("two_towers", "fusion"), GENERIC | {"heads": 4, "head_dim": 4, "stem": 4}),
    "speech": GENERIC | {"heads": 4, "head_dim": 4, "bands": 8, "filters": 4},
    "bert": GENERIC | {"heads": 4},
    "masked_autoencoder": GENERIC | {"heads": 4},
    "encoder_decoder": GENERIC
    | {"heads": 4, "head_dim": 4, "encoder_depth": 1}
    | {"pointer": True},
}
# Of the data, by kind; "{text}" is a glob of small files. Some hundred examples, of 16 units at
# most.
DATA: dict[str, dict[str, Any]] = {
    "text": {"source": "{text}", "seq_len": 16},
    "images": {"source": "digits"},
    "pairs": {"source": "dates:en"},
    "scenes": {"task": "questions", "validation_scenes": 24},
    "speech": {"utterances": 60, "sample_rate": 2000},
    "denoising": {"source": "{text}", "seq_len": 16},
    "passages": {"source": "{text}", "seq_len": 16},
    "labelled": {"source": "names:de-en-fr-sw", "seq_len": 16},
    "tagged": {"source": f"tokens:{HERE}/*.py", "seq_len": 16},
    "questions": {"source": f"parameters:{HERE}/*.py", "seq_len": 48},
    "multitask": {
        "source": f"labelled=names:de-fr,tagged=tokens:{HERE}/*.py,"
        f"questions=parameters:{HERE}/*.py,text={{text}}",
        "seq_len": 48,
    },
    "vectors": {"features": 8, "targets": 4, "examples": 64, "validation_examples": 24},
    "sequences": {"length": 16, "validation_examples": 24},
    "triples": {},
    "facts": {"people": 64, "strangers": 24, "name_tokens": 2, "attributes": 4, "retrieved": 1},
}
# Of the objective, by name, where its defaults leave terms off that should be tried.
OBJECTIVES: dict[str, dict[str, Any]] = {
    "next_token": {"z_loss": 1e-3},
    "classification": {"label_smoothing": 0.1},
    # Views of the same batch differ less from step to step than what is learned from them.
    "contrastive_views": {"temperature": 0.2, "rotation": 2.0, "shift": 0.02, "noise": 0.05},
}
# Families, and an objective, whose program the compiler cannot be held to, and why.
COMPILED_OTHERWISE = {
    "lstm": "of its loop over time the compiler counts the body once; unrolled, it computes the "
    "small product of a step again in each place that reads it",
    "lstm_classifier": "likewise",
    "convnet": "of the gradient of a depthwise kernel the compiler counts all channels with all",
    "gan": "each player's loss is traced by itself, and the compiler computes once what both have: "
    "the ledger is 8 % above its count",
    "contrastive_views": "of the resampling of its views the compiler counts more",
    "link_prediction": "training does without its ranks, which the compiler leaves out and the "
    "ledger does not: 4 % of a model whose scores are most of its work",
    "random_features": "its projection is drawn in the program, which the ledger does not count",
}

ROWS = 8
RUN: dict[str, Any] = {
    "optim.peak_lr": 1e-2,
    "optim.warmup_fraction": None,
    "optim.warmup_steps": 0,
    "train.batch_size": ROWS,
    "train.steps": 4,
    "train.log_every": 1,
    "train.checkpoint_every": 3,
    "evals.every": 2,
    "evals.batches": 1,
    "evals.batch_size": ROWS,
}


MESHES = {
    "8": {"data": 8},
    "4 x 2 fsdp": {"data": 4, "fsdp": 2},
    "4 x 2 tensor": {"data": 4, "tensor": 2},
}
ONE_MESH = "4 x 2 fsdp"


@dataclass(frozen=True)
class Names:
    """Keys of the three registries."""

    family: str
    kind: str
    objective: str

    def __str__(self) -> str:
        return f"{self.family}-{self.kind}-{self.objective}"

    def raw(self) -> RunConfig:
        """Every field at its default."""
        return RunConfig(
            model=choices.new("model", self.family),
            data=choices.new("data", self.kind),
            objective=choices.new("objective", self.objective),
        )


def _fits(names: Names) -> bool:
    try:
        check_pairs(names.raw())
    except ConfigError:
        return False
    return True


def every() -> list[Names]:
    """What fits, by `check_pairs`."""
    products = itertools.product(*map(choices.registry, ("model", "data", "objective")))
    return [names for names in itertools.starmap(Names, products) if _fits(names)]


def tiny(names: Names, text: str) -> RunConfig:
    """The resolved run; `text` is the glob of the text files."""
    return study.resolve(written(names, text))


def wide(names: Names, text: str) -> RunConfig:
    """As `tiny`, but so wide that what is counted is mostly matmuls, and without a scan."""
    config = written(names, text)
    model = config.model
    fields = choices.family(model).scaled(model, 64, model.depth)
    if "scan_layers" in to_dict(model):
        fields["model.scan_layers"] = False
    return study.resolve(override(config, fields))


def written(names: Names, text: str) -> RunConfig:
    """The tiny run as a person would write it, not resolved."""
    assert names.kind in DATA, (
        f"data.kind={names.kind} is registered but has no tiny form: add its fields to DATA in "
        f"tests/families/{pathlib.Path(__file__).name}"
    )
    groups = {
        "model": MODELS.get(names.family, GENERIC),
        "data": DATA[names.kind],
        "objective": OBJECTIVES.get(names.objective, {}),
    }
    fields = RUN | {f"{g}.{name}": value for g, of in groups.items() for name, value in of.items()}
    placed = {k: v.format(text=text) if isinstance(v, str) else v for k, v in fields.items()}
    return override(names.raw(), placed)


class Combination:
    """One of them, and what is computed of it once a session."""

    def __init__(self, names: Names, text: str, folder: pathlib.Path):
        self.names, self.text, self.folder = names, text, folder
        self.config = tiny(names, text)
        self.family = choices.family(self.config.model)
        self.kind = choices.kind(self.config.data)
        self.objective = choices.objective(self.config.objective)
        self.curve = functools.cache(self._curve)
        self._compiled = functools.cache(self._compiled_once)
        self.trained = functools.cache(self._trained)

    def has(self, field: str) -> bool:
        """Whether the model's config has a field."""
        return field in to_dict(self.config.model)

    def resolved(self, fields: Mapping[str, Any]) -> RunConfig:
        """The run with others, resolved anew, which checks it."""
        return study.resolve(override(self.config, fields))

    def with_fields(self, fields: Mapping[str, Any]) -> RunConfig:
        """The run with others."""
        return override(self.config, fields)

    @functools.cached_property
    def batch(self) -> dict[str, np.ndarray]:
        """The first of training, in which rows weigh differently where they have a weight."""
        batch = data.train_batches(self.config).batch(0)
        for name in self.kind.weights:
            places = np.arange(batch[name][0].size).reshape(batch[name].shape[1:])
            rows = np.arange(ROWS).reshape(-1, *[1] * places.ndim)
            # The first rows lose most of their places, and row 1 all of them.
            batch[name] = np.where((rows != 1) & (places[None] <= 3 * rows), batch[name], 0)
        return batch

    @functools.cached_property
    def plan(self) -> state_lib.Layout:
        """On one device."""
        return layout(self.config, 1)

    @functools.cached_property
    def params(self) -> Any:
        """The initial ones, moved by a little noise, so that what starts at zero shows."""
        start = state_lib.init(state_lib.parts(self.config), self.config, self.plan).params
        rng = np.random.default_rng(0)
        return jax.tree.map(
            lambda p: np.asarray(p) + 0.02 * rng.normal(size=p.shape).astype(p.dtype), start
        )

    def gradient(self, fields: Mapping[str, Any] | None = None) -> tuple[Any, Any]:
        """(gradient of the mean loss, the sums behind the metrics) of the batch."""
        config = self.with_fields(fields or {})
        pieces = state_lib.parts(config)
        hparams, pieces_of = programs.hparams(config), config.train.microbatches
        compute = jax.jit(functools.partial(gradients, pieces, pieces_of))
        found = compute(self.params, self.batch, hparams, jax.random.key(0))
        return jax.device_get(found)

    @functools.cached_property
    def whole(self) -> tuple[Any, Any]:
        """`gradient` as it is."""
        return self.gradient()

    @functools.cached_property
    def losses(self) -> np.ndarray:
        """Of every step of the run trained alone by the loop, float64 [4]."""
        run = RunDirectory.open(self.config, self.trained())
        return np.float64([line["loss"] for line in run.metrics() if line["split"] == "train"])

    def _curve(self, mesh: str, same_batch: bool = False) -> np.ndarray:
        """Losses of the first steps on eight devices, float64 [4]; `same_batch`: of 12, on one
        batch. `mesh` is a key of MESHES.
        """
        config, pieces, plan, run = self._compiled(mesh)
        stacked, whole = sharding.stacked_batch_sharding(plan.mesh), sharding.replicated(plan.mesh)
        batches, losses = data.train_batches(config), []
        with sharding.context(plan.mesh):
            state = state_lib.init(pieces, config, plan)
            hparams = place(programs.hparams(config), whole)
            for step in range(12 if same_batch else 4):
                rows = batches.batch(0 if same_batch else step)
                batch = place({name: x[None] for name, x in rows.items()}, stacked)
                state, metrics = run(state, batch, place(np.int32(1), whole), hparams)
                losses.append(metrics["loss"])
        return np.concatenate(jax.device_get(losses)).astype(np.float64)

    def _compiled_once(self, mesh: str) -> tuple[RunConfig, Any, Any, Callable[..., Any]]:
        """The run on a mesh, its parts, its layout and its compiled steps."""
        config = self.with_fields({f"mesh.{axis}": size for axis, size in MESHES[mesh].items()})
        pieces, plan = state_lib.parts(config), layout(config, 8)
        with sharding.context(plan.mesh):
            return config, pieces, plan, compile_steps(pieces, config, plan)

    @functools.cached_property
    def two(self) -> list[RunConfig]:
        """Runs of one program: another seed and learning rate, another length."""
        other = {"seed": 1, "optim.peak_lr": 3e-3, "train.steps": 3}
        return [self.config, study.resolve(override(self.config, other))]

    def _trained(self) -> pathlib.Path:
        """Workdir of the two, each trained alone by the loop on one device."""
        for config in self.two:
            train(config, self.folder, devices=jax.devices()[:1], quiet=True)
        return self.folder

    @functools.cached_property
    def rows_of(self) -> Callable[..., Any]:
        """(params, batch) -> the statistics of every row, on one device."""
        pieces = state_lib.parts(self.config)
        return jax.jit(functools.partial(pieces.objective.rows, pieces.model))


def layout(config: RunConfig, devices: int) -> state_lib.Layout:
    """The state on the first devices."""
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:devices])
    return state_lib.layout(state_lib.parts(config), config, mesh)
