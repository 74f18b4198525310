"""`launch.py debug`: one step of a run, looked into."""

import contextlib
from typing import TYPE_CHECKING

from absl import flags

from scaling.commands import config_flag
from scaling.commands.command import FLAGS, Command, given_run
from scaling.errors import FAILED, UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scaling.debug.instant import Instant
    from scaling.records import RunDirectory


def _debug_flags() -> None:
    config_flag.define()
    flags.DEFINE_string("run", None, "a run directory, instead of --config")
    flags.DEFINE_integer(
        "step",
        None,
        "the update to look into, from 1; default: where the run diverged, else the one after its "
        "newest checkpoint, else the first",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "eager", False, "run it without jit: breakpoint(), print and pdb work in any module"
    )
    flags.DEFINE_bool("overfit", False, "train on its batch alone: does the loss go to near zero?")
    flags.DEFINE_bool(
        "check_grads", False, "gradients of a shrunk copy against finite differences in float64"
    )
    flags.DEFINE_bool(
        "causality", False, "the first module that sees later tokens or another document"
    )
    flags.DEFINE_enum(
        "compare",
        None,
        ["eager", "float32", "bfloat16", "float64"],
        "as compiled against this: the first module at which they part",
    )
    flags.DEFINE_string("only", None, "of the table, the modules and parameters with this in them")


def _debug() -> int:
    import jax

    from scaling.debug import mistakes
    from scaling.devices import runtime

    if (FLAGS.config is None) == (FLAGS.run is None):
        raise UserError("debug: give exactly one of --config and --run")
    run = given_run("run") if FLAGS.run else None
    runtime.configure()
    # Operations that run one at a time are many small programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    checks = [check for name, check in _CHECKS.items() if FLAGS[name].value] or [_table]
    try:
        return 0 if _looked(run, checks) else FAILED
    except mistakes.ModelError as error:
        print(error)
        return FAILED


def _looked(run: "RunDirectory | None", checks: "Sequence[Callable[[Instant], bool]]") -> bool:
    """Whether nothing wrong was found."""
    import jax

    from scaling.debug import eager, mistakes

    # Switches of jax that stop at the first NaN would hide where it goes.
    with mistakes.reported(), jax.debug_nans(False), jax.debug_infs(False):
        with eager.without_breakpoints(), jax.disable_jit(False):
            instant = _instant(run)
            print(_title(instant), flush=True)
        with contextlib.nullcontext() if FLAGS.eager else eager.without_breakpoints():
            fine = [check(instant) for check in checks]
    return all(fine)


def _instant(run: "RunDirectory | None") -> "Instant":
    from scaling.debug import instant as instants
    from scaling.studies import study

    if run is None:
        return instants.of_config(study.resolve(config_flag.given()), FLAGS.step or 1)
    return instants.of_run(run, FLAGS.step, lambda c: study.resolve(config_flag.changed(c)))


def _title(instant: "Instant") -> str:
    from scaling.config import run_name

    batch = "x".join(map(str, next(iter(instant.batch.values())).shape))
    lines = [f"{run_name(instant.config)}, step {instant.step}, batch {batch}"]
    return "\n".join([*lines, *(f"({note})" for note in instant.notes)])


def _table(instant: "Instant") -> bool:
    from scaling.debug import hunt, table

    found = table.of(instant)
    print("  ".join(f"{name} {value:.6g}" for name, value in found.metrics.items()))
    print(f"\n{table.text(found.modules, FLAGS.only)}")
    print(f"\n{table.text(found.params, FLAGS.only)}\n", flush=True)
    if found.finite:
        print("every result of the step is finite")
    else:
        print(hunt.text(hunt.hunt(instant)))
    return found.finite


def _eager(instant: "Instant") -> bool:
    import bdb

    from scaling.debug import eager

    try:
        eager.run(instant)
    except bdb.BdbQuit:
        print("left the debugger")
    return True


def _overfit(instant: "Instant") -> bool:
    from scaling.config import choices
    from scaling.debug import overfit

    measure = choices.objective(instant.config.objective).metrics["loss"].label
    found = overfit.overfit(
        instant, say=lambda i, loss: print(f"update {i}: {measure} {loss:.4g}", flush=True)
    )
    print(overfit.text(found))
    return found.reached


def _check_grads(instant: "Instant") -> bool:
    from scaling.debug import gradients

    found = gradients.check(instant)
    print(gradients.text(found))
    return all(check.right for check in found)


def _causality(instant: "Instant") -> bool:
    from scaling.debug import causality

    found = causality.leaks(instant)
    print(causality.text(found))
    return not found


def _compare(instant: "Instant") -> bool:
    from scaling.debug import parting

    found = parting.compare(instant, FLAGS.compare)
    print(parting.text(found))
    return found.first is None


_CHECKS = {
    "eager": _eager,
    "overfit": _overfit,
    "check_grads": _check_grads,
    "causality": _causality,
    "compare": _compare,
}

COMMANDS = {
    "debug": Command(
        "look into one step of a run: every module, and where it goes wrong",
        """Build the state and the batch of one step of a run, and look into it; writes nothing.

  python launch.py debug --config=configs/lm.py:debug
  python launch.py debug out/runs/<run> --step=120 --only=attention

A table shows every module's output and the gradient at it, every parameter with its gradient and
its update. If anything is NaN or infinite, the step is run again one operation at a time, and the
first that made it is named, with its module, its source line and what it was given. Other flags
look at something else instead; docs/debugging.md shows them at work.

  python launch.py debug --config=configs/lm.py:debug --causality --check_grads --overfit
  python launch.py debug --config=configs/lm.py:debug --compare=bfloat16

Exit codes: 0 nothing wrong was found; 1 something was; 2 bad input.""",
        _debug_flags,
        _debug,
        arguments=("run",),
    ),
}
