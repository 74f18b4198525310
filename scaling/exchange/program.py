"""A run as a program that runs without this code: `launch.py export --to=jax_export`.

Takes a run directory with a checkpoint; writes the forward pass of its evaluation as StableHLO
(`jax.export`) of any number of rows, the weights beside it as safetensors, and what goes in and
comes out as JSON. docs/exchange.md has the ten lines that call it.
"""

import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from scaling import families, files
from scaling.config import RunConfig, choices, contracts
from scaling.errors import UserError
from scaling.exchange import tensors
from scaling.optim import subtree
from scaling.records import RunDirectory
from scaling.train.opened import newest

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, SIGNATURE = "program.bin", "signature.json"
_ROWS = "batch"  # the name of the number of rows, in shapes


@dataclass(frozen=True)
class Forward:
    """What a model makes of rows: a pure function, and what it takes."""

    # (weights by path, fields [B, ...] by name) -> float32 [B, ...] by name
    call: Callable[[Mapping[str, jax.Array], Mapping[str, jax.Array]], dict[str, jax.Array]]
    inputs: Mapping[str, contracts.Shape]  # of one row


def write(
    run: RunDirectory, out: Path, dtype: str | None = None
) -> tuple[export.Exported, dict[str, str]]:
    """Fills the folder `out`; gives the program, and why it is not lowered for some of `PLATFORMS`.

    Args:
      dtype: of the weights in the file; the program computes as the run does. None: float32.

    Raises UserError for a model that no program of any number of rows can be made of, and without
    the package that jax writes programs with.
    """
    if importlib.util.find_spec("flatbuffers") is None:
        raise UserError(
            "export: --to=jax_export needs flatbuffers (the extra `export`): install it"
        )
    opened = newest(run)
    config, name = opened.config, dtype or "float32"
    leaves = {path: np.asarray(leaf) for path, leaf in subtree.leaves(opened.used)}
    forward = forward_of(config, leaves)
    lowered, refused = lowered_for(PLATFORMS, config, forward, leaves, name)
    folder = tensors.new_folder(out, "--out")
    tensors.write(folder, leaves, dict.fromkeys(leaves, name))
    (folder / PROGRAM).write_bytes(lowered.serialize())
    said = {
        "run": run.path.name,
        "family": config.model.family,
        "platforms": lowered.platforms,
        "not_lowered": refused,
        "jax": jax.__version__,
        "calling_convention": lowered.calling_convention_version,
        "weights": {"parameters": sum(leaf.size for leaf in leaves.values()), "dtype": name},
        "inputs": {n: _described((_ROWS, *s), d) for n, (s, d) in forward.inputs.items()},
        "outputs": _outputs(lowered),
    }
    kind = choices.kind(config.data)
    if kind.tokenizer is not None:
        tokenizer = kind.tokenizer(config.data, files.data_dir())
        said["separator"] = tokenizer.separator
        if hasattr(tokenizer, "exported"):
            (folder / "tokenizer.json").write_bytes(tokenizer.exported()[0])
    (folder / SIGNATURE).write_text(json.dumps(said, indent=2) + "\n")
    return lowered, refused


def forward_of(config: RunConfig, weights: Mapping[str, Any]) -> Forward:
    """The forward pass of a resolved run. A row of a causal model is one document from its
    beginning: nothing sees what fills it up behind.
    """
    family, shapes = choices.family(config.model), choices.kind(config.data).shapes(config.data)
    module = families.build(family.readable(config.model))
    own = {"positions": (shapes["positions"][0], "int32")} if "positions" in shapes else {}
    offered = {name: shape for name, shape in shapes.items() if name not in own}
    if family.causal:
        offered.pop("segment_ids", None)

    def call(weights: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, jax.Array]:
        floats = {path: leaf.astype(jnp.float32) for path, leaf in weights.items()}
        rows = next(iter(fields.values())).shape[0]
        places = {
            name: jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32)[None], (rows, length))
            for name, ((length,), _) in own.items()
        }
        batch = _Read(read, {**fields, **places})
        outputs: Any = module.apply({"params": subtree.nested(floats)}, batch)
        found = families.predictions(outputs) or {
            name: outputs[name] for name in sorted(family.gives & outputs.keys())
        }
        return {name: x.astype(jnp.float32) for name, x in found.items() if x.ndim}

    read = set[str]()
    one = {n: jax.ShapeDtypeStruct((1, *shape), dtype) for n, (shape, dtype) in offered.items()}
    jax.eval_shape(call, weights, one)
    return Forward(call, {name: shape for name, shape in offered.items() if name in read})


class _Read(dict[str, Any]):
    """A batch that remembers which of its fields were asked for."""

    def __init__(self, read: set[str], fields: Mapping[str, Any]):
        super().__init__(fields)
        self._read = read

    def __getitem__(self, name: str) -> Any:
        self._read.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._read.update({name} & self.keys())
        return super().get(name, default)


def lowered_for(
    platforms: tuple[str, ...],
    config: RunConfig,
    forward: Forward,
    weights: Mapping[str, np.ndarray],
    dtype: str,
) -> tuple[export.Exported, dict[str, str]]:
    """The program for as many of the platforms as it can be lowered for, and why not for others.
    Raises UserError where there is none.
    """
    (rows,) = export.symbolic_shape(_ROWS)
    given = (
        {path: jax.ShapeDtypeStruct(w.shape, tensors.DTYPES[dtype]) for path, w in weights.items()},
        {n: jax.ShapeDtypeStruct((rows, *s), of) for n, (s, of) in forward.inputs.items()},
    )
    called = jax.jit(forward.call)
    try:
        return export.export(called, platforms=platforms)(*given), {}
    except Exception as error:  # of tracing and of lowering, and theirs are of many kinds
        why = _first_line(error)
    if len(platforms) == 1:
        raise UserError(
            f"export: no program of any number of rows can be made of model.family="
            f"{config.model.family} ({why}); --to=safetensors writes the weights alone"
        )
    refused = dict[str, str]()
    for one in platforms:
        try:
            export.export(called, platforms=(one,))(*given)
        except Exception as error:
            refused[one] = _first_line(error)
    kept = tuple(one for one in platforms if one not in refused)
    found, _ = lowered_for(kept or platforms[:1], config, forward, weights, dtype)
    return found, refused


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _described(shape: tuple[Any, ...], dtype: str) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": dtype}


def _outputs(lowered: export.Exported) -> dict[str, Any]:
    avals = jax.tree.unflatten(lowered.out_tree, lowered.out_avals)
    return {
        name: _described(tuple(s if isinstance(s, int) else str(s) for s in x.shape), x.dtype.name)
        for name, x in avals.items()
    }
