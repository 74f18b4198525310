"""The step that the loop runs, compiled for a target: memory, collectives, traffic, time.

Takes a resolved run and a mesh of the target's devices; lowers `train.step.compile_steps` with
abstract arguments, so no array is ever made. `Lowered.key` names the program: runs that differ only
in hyper-parameters have one in common. Called by `report.py`.
"""

import dataclasses
import hashlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from scaling import optim
from scaling.check import program as program_lib
from scaling.check.target import Target
from scaling.config import RunConfig
from scaling.costs import counts
from scaling.devices import sharding, xla_flags
from scaling.train import state as state_lib
from scaling.train.step import compile_steps

_FORMAT = 2  # of what is stored by `Lowered.key`; raise it when programs are read in another way


@dataclass(frozen=True)
class Memory:
    """Bytes of one device, by the compiler's plan."""

    arguments: float  # the state, the batch
    temporaries: float  # activations, gradients, what collectives need
    output: float
    aliased: float  # of the output, what takes the place of arguments (the state is donated)
    generated_code: float
    host: float = 0.0  # in the host's memory: what is offloaded

    @property
    def total(self) -> float:
        """What the device must have."""
        return self.arguments + self.temporaries + self.output - self.aliased + self.generated_code


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of a step."""

    memory: Memory | None  # None: it does not fit, see `needs`
    needs: float  # bytes that a device must have
    limit: float | None  # bytes that the compiler lets it have, where it said so
    program: program_lib.Program | None
    seconds: float  # that the compiler took
    reason: str | None = None  # the compiler's words when it gave up


@dataclass(frozen=True)
class Lowered:
    """A step, ready to be compiled."""

    key: str  # equal for equal programs on equal targets
    plan: state_lib.Layout
    lowered: Any


def lower(config: RunConfig, mesh: jax.sharding.Mesh, target: Target) -> Lowered:
    """The step of a resolved run on a mesh, traced and partitioned by name, not yet compiled."""
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, mesh)
    stacked, everywhere = sharding.stacked_batch_sharding(mesh), sharding.replicated(mesh)
    calls = config.train.steps_per_call
    batches = {
        name: jax.ShapeDtypeStruct((calls, *s.shape), s.dtype, sharding=stacked)
        for name, s in counts.batch_shapes(config).items()
    }
    hparams = optim.hparams_shapes(config, everywhere)
    count = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    with sharding.context(mesh):
        steps = compile_steps(pieces, config, plan)
        lowered = steps.lower(plan.abstract, batches, count, hparams)
    sizes, platform = list(mesh.shape.items()), mesh.devices.flat[0].platform
    identity = [
        _FORMAT,
        lowered.as_text(),
        xla_flags.options(config.train.xla_flags, platform),  # not in the text
        target.name,
        sizes,
        jax.__version__,
        _compiler_version(),
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return Lowered(key, plan, lowered)


def compile(lowered: Lowered, target: Target) -> Compiled:
    """Compile for real. A program that does not fit is no error: its numbers are in the result."""
    begin = time.perf_counter()
    try:
        compiled = lowered.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        overflow = _overflow(str(error))
        if overflow is None:
            raise
        needs, limit = overflow
        seconds = time.perf_counter() - begin
        reason = " ".join(str(error).split("\n", 1)[0].split())
        return Compiled(None, needs, limit, None, seconds, reason)
    seconds = time.perf_counter() - begin
    stats = compiled.memory_analysis()
    memory = Memory(
        arguments=stats.argument_size_in_bytes,
        temporaries=stats.temp_size_in_bytes,
        output=stats.output_size_in_bytes,
        aliased=stats.alias_size_in_bytes,
        generated_code=stats.generated_code_size_in_bytes,
        host=stats.host_argument_size_in_bytes + stats.host_temp_size_in_bytes,
    )
    slices = target.slices if target.shape else 1
    program = program_lib.read(compiled.as_text(), len(target.devices), slices)
    return Compiled(memory, memory.total, None, program, seconds)


_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


# The compiler's two complaints: of its finished plan, and of temporaries alone, before it has one.
_OVERFLOWS = (
    r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm",
    r"temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)",
)


def _overflow(message: str) -> tuple[float, float] | None:
    """(bytes needed, bytes there) of the compiler's complaint; None if it is about other things."""
    for pattern in _OVERFLOWS:
        if match := re.search(pattern, message):
            used, used_unit, limit, limit_unit = match.groups()
            return float(used) * _UNITS[used_unit], float(limit) * _UNITS[limit_unit]
    return None


def _compiler_version() -> str:
    from importlib import metadata

    try:
        return metadata.version("libtpu")
    except metadata.PackageNotFoundError:
        return metadata.version("jaxlib")


def to_json(compiled: Compiled) -> dict[str, Any]:
    """Plain values; `from_json` reads them back."""
    return dataclasses.asdict(compiled)


def from_json(values: dict[str, Any]) -> Compiled:
    """As it was."""
    memory, program = values["memory"], values["program"]
    if program is not None:
        collectives = tuple(
            program_lib.Collective(
                **c | {"group": tuple(c["group"]), "pairs": tuple(map(tuple, c["pairs"]))}
            )
            for c in program["collectives"]
        )
        program = program_lib.Program(**program | {"collectives": collectives})
    return Compiled(
        **values | {"memory": None if memory is None else Memory(**memory), "program": program}
    )
