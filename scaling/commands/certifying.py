"""`launch.py certify`: do the hyper-parameters of a config transfer to models of other shapes?"""

import json
import sys
import typing
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from scaling.commands import config_flag
from scaling.commands.command import (
    FLAGS,
    Command,
    reachable_workdir,
    stop_on_signals,
    workdir_flag,
)
from scaling.errors import FAILED, RESUME_ME, UserError, nearest

if TYPE_CHECKING:
    from scaling.certify.certificate import Drift, Forgotten, Part
    from scaling.certify.slopes import Slope
    from scaling.config import RunConfig

_LEAST = 3  # sizes that a slope with an interval takes


def _flags() -> None:
    config_flag.define()
    workdir_flag()
    flags.DEFINE_enum("axis", "width", ["width", "depth"], "what the models differ in")
    flags.DEFINE_list("sizes", ["32", "64", "128", "256"], "of the axis")
    flags.DEFINE_integer(
        "base", None, "size that the config's numbers hold for; default the first", lower_bound=1
    )
    flags.DEFINE_enum(
        "ends", "zero", ["zero", "drawn"], "how outputs, along the depth branches, begin; see docs"
    )
    flags.DEFINE_list("parametrizations", ["mup"], "standard, mup, depth_mup, completep")
    flags.DEFINE_integer("steps", 10, "of the coordinate check", lower_bound=1)
    flags.DEFINE_integer("seeds", 2, "of each model", lower_bound=1)
    flags.DEFINE_float("tolerance", 0.05, "of an exponent that counts as zero", lower_bound=0.0)
    flags.DEFINE_bool("coordinates", True, "the coordinate check")
    flags.DEFINE_bool("transfer", False, "train each size at several rates, as long as the config")
    flags.DEFINE_bool("stress", False, "that at other weight decays, batches and lengths, too")
    flags.DEFINE_list("octaves", ["-1.5", "-1", "-0.5", "0", "0.5", "1", "1.5"], "of those rates")


def _certify() -> int:
    from scaling.certify import certificate as page
    from scaling.config import override, run_name
    from scaling.devices import runtime
    from scaling.studies import study, transfer

    sizes, names, octaves = _sizes(), _names(), _octaves()
    if FLAGS.stress and not FLAGS.transfer:
        raise UserError("certify: --stress changes nothing without --transfer; add it")
    if FLAGS.config is None:
        raise UserError("certify: give --config, e.g. --config=configs/tiny.py")
    reachable_workdir()
    runtime.configure()
    config = config_flag.given()
    if config.optim.parametrization != "standard":
        raise UserError(
            "certify: --config is the base, and its shape the base's; leave optim.parametrization "
            f"at standard and give --parametrizations={config.optim.parametrization}"
        )
    base = override(config, transfer.model(config, FLAGS.axis, FLAGS.base or sizes[0]))
    parts = []
    for name in names:
        part = _part(base, name, sizes, octaves)
        if part is None:
            return RESUME_ME
        parts.append(part)
    found = page.Certificate(
        run=run_name(study.resolve(base)),
        optimizer=base.optim.name,
        axis=FLAGS.axis,
        sizes=sizes,
        steps=FLAGS.steps,
        seeds=FLAGS.seeds,
        ends=FLAGS.ends,
        tolerance=FLAGS.tolerance,
        parts=tuple(parts),
    )
    _write(found)
    for part in parts:
        print(f"{base.optim.name}, {part.name}, {FLAGS.axis}: {found.verdict(part)}")
    promised = [name for name in names if name != "standard"]
    fails = FLAGS.coordinates and not all(map(found.holds, promised))
    return FAILED if fails else 0


def _sizes() -> tuple[int, ...]:
    """Raises UserError for what are no sizes, or too few."""
    try:
        sizes = tuple(map(int, FLAGS.sizes))
    except ValueError:
        raise UserError(f"--sizes={','.join(FLAGS.sizes)} must be whole numbers") from None
    if len(set(sizes)) < _LEAST or sorted(set(sizes)) != list(sizes):
        raise UserError(
            f"--sizes={','.join(FLAGS.sizes)} must be {_LEAST} or more, ascending: a slope from "
            "fewer has no interval"
        )
    return sizes


def _names() -> list[str]:
    """The parametrizations asked for. Raises UserError for one that there is none of."""
    from scaling.config import OptimConfig

    known = typing.get_args(typing.get_type_hints(OptimConfig)["parametrization"])
    for name in FLAGS.parametrizations or [""]:
        if name not in known:
            raise UserError(
                f"--parametrizations={name} is none{nearest(name, known)}; there are "
                f"{', '.join(known)}"
            )
    return list(dict.fromkeys(FLAGS.parametrizations))


def _octaves() -> list[float]:
    """Raises UserError for what are no numbers, or too few for a lowest point between them."""
    try:
        octaves = [float(octave) for octave in FLAGS.octaves]
    except ValueError:
        raise UserError(f"--octaves={','.join(FLAGS.octaves)} must be numbers") from None
    if len(set(octaves)) < _LEAST:
        raise UserError(f"--octaves={','.join(FLAGS.octaves)} must be {_LEAST} or more")
    return octaves


def _part(
    base: "RunConfig", name: str, sizes: tuple[int, ...], octaves: list[float]
) -> "Part | None":
    """What is measured of one parametrization; None: told to stop."""
    from scaling.certify.certificate import Part
    from scaling.config import override
    from scaling.studies import transfer

    slopes: list[Slope] = []
    forgotten = None
    if FLAGS.coordinates:
        slopes = _coordinates(base, name, sizes, FLAGS.seeds)
        forgotten = _forgotten(base, name, sizes, slopes)
    if not FLAGS.transfer:
        return Part(name, tuple(slopes), forgotten, None)
    drift = _transfer(base, name, sizes, octaves)
    stress: list[tuple[str, Drift]] = []
    for what, changed in (transfer.stressed(base) if FLAGS.stress else {}).items():
        then = None if drift is None else _transfer(override(base, changed), name, sizes, octaves)
        if then is None:
            return None
        stress.append((what, then))
    return None if drift is None else Part(name, tuple(slopes), forgotten, drift, tuple(stress))


def _coordinates(
    base: "RunConfig", name: str, sizes: tuple[int, ...], seeds: int, wrong: Any = None
) -> "list[Slope]":
    from scaling.certify import coordinates, slopes
    from scaling.config import override
    from scaling.studies import study, transfer

    measured = []
    for size in sizes:
        fields = transfer.model(base, FLAGS.axis, size) | transfer.parametrized(base, name)
        config = study.resolve(coordinates.prepared(override(base, fields), FLAGS.steps))
        quiet = FLAGS.axis if FLAGS.ends == "zero" else None
        of_seed = coordinates.measure(config, FLAGS.steps, wrong, quiet)
        measured += [of_seed(seed) for seed in range(seeds)]
        print(f"{name}: {FLAGS.axis} {size} measured", file=sys.stderr, flush=True)
    return slopes.fit(measured, FLAGS.axis, tolerance=FLAGS.tolerance)


def _forgotten(
    base: "RunConfig", name: str, sizes: tuple[int, ...], right: "list[Slope]"
) -> "Forgotten | None":
    """The check once more without one multiplier; None: the parametrization has none."""
    import functools

    from scaling.certify.certificate import Forgotten, forgettable
    from scaling.certify.slopes import off
    from scaling.config import override
    from scaling.optim.parametrization import without
    from scaling.studies import study, transfer
    from scaling.transforms import transform

    fields = transfer.model(base, FLAGS.axis, sizes[-1]) | transfer.parametrized(base, name)
    largest = study.resolve(override(base, fields))
    one = forgettable(transform.described(largest))
    if one is None:
        return None
    path, field = one
    print(f"{name}: without the {field} multiplier of {path}", file=sys.stderr, flush=True)
    wrong = functools.partial(without, path=path, field=field)
    before = {slope.name for slope in off(right)}
    # What is wrong by the growth of the largest stands out of the noise of one seed.
    slopes = _coordinates(base, name, sizes, 1, wrong)
    found = [one.name for one in off(slopes) if one.name not in before]
    return Forgotten(path, field, tuple(found))


def _transfer(
    base: "RunConfig", name: str, sizes: tuple[int, ...], octaves: list[float]
) -> "Drift | None":
    """Runs of every size and rate, and where their best rates lie; None: told to stop."""
    import jax

    from scaling.config.sweep import Study
    from scaling.executors import plan as plan_lib
    from scaling.executors import preview
    from scaling.executors.local import run_local
    from scaling.records import RunDirectory, tables
    from scaling.studies import study, transfer

    falls = 1.0 if name == "standard" and FLAGS.axis == "width" else 0.0
    runs = transfer.runs(base, FLAGS.axis, sizes, name, octaves, range(FLAGS.seeds), falls)
    plan = Study(f"certify-{name}", base, runs, x="optim.peak_lr", group=f"model.{FLAGS.axis}")
    configs = study.runs(plan)
    devices = jax.devices()
    jobs = plan_lib.plan(
        configs, FLAGS.workdir, devices=devices, processes=1, branch=False, pack="auto"
    ).jobs
    stop = stop_on_signals()
    results = run_local(jobs, FLAGS.workdir, workers=1, stop=stop)
    print(preview.summary(results, FLAGS.workdir), file=sys.stderr)
    if stop.is_set():
        return None
    frame = tables.table([RunDirectory.open(config, FLAGS.workdir) for config in configs])
    return _drift(frame, sizes)


def _drift(frame: Any, sizes: tuple[int, ...]) -> "Drift":
    import math

    import numpy as np

    from scaling.certify.certificate import Best, drift_of
    from scaling.laws.optimum import optima, rate_law

    rows = [frame[frame[FLAGS.axis] == size] for size in sizes]
    curves = [(of["optim.peak_lr"].to_numpy(), of["loss"].to_numpy()) for of in rows]
    found = optima(curves)
    bests = [
        Best(size, one.rate, one.low, one.high, one.loss, one.refused or one.wide)
        for size, one in zip(sizes, found, strict=True)
    ]
    law = rate_law(np.array(sizes, float), found)
    ends = (math.nan,) * 3 if law is None else (law.exponent, law.low, law.high)
    return drift_of(bests, *ends)


def _write(found: Any) -> None:
    from scaling import files
    from scaling.certify import certificate as page

    folder = epath.Path(FLAGS.workdir) / "certificates"
    files.make_directory(folder)
    stem = f"{found.optimizer}-{found.axis}"
    files.write_atomic(folder / f"{stem}.md", page.markdown(found).encode())
    text = json.dumps(page.as_dict(found), indent=1) + "\n"
    files.write_atomic(folder / f"{stem}.json", text.encode())
    print(f"certificate: {folder / stem}.md")


COMMANDS = {
    "certify": Command(
        "do hyper-parameters transfer to wider and deeper models; sizes of activations and updates",
        """Measure whether a parametrization keeps its promise, and write a page.

  python launch.py certify --config=configs/tiny.py --parametrizations=standard,mup
  python launch.py certify --config=configs/tiny.py --axis=depth --sizes=2,4,8,16 \\
    --parametrizations=completep
  python launch.py certify --config=configs/tiny.py --config.train.steps=1000 --transfer

The config is the base: its shape at --base, or the first of the sizes, is the one that its numbers
hold for.
Exponents of everything in the model over the sizes, after a few steps; then once more with one
multiplier left out, which must be found; with --transfer the best learning rate of each size,
and with --stress the same with more weight decay, larger batches and longer runs, as found. The
exit code says whether what is promised holds.""",
        _flags,
        _certify,
    ),
}
