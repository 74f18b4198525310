"""`launch.py samples`: what the models of a workdir make, judged by a model that tells it apart."""

import math
import sys
from typing import TYPE_CHECKING, Any

from absl import flags
from etils import epath

from scaling.commands.command import (
    FLAGS,
    Command,
    given_run,
    no_workdir,
    reachable_workdir,
    workdir_flag,
)
from scaling.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np

    from scaling.config import RunConfig
    from scaling.records import RunDirectory

_SHOWN = 16  # images a row of the picture


def _samples_flags() -> None:
    workdir_flag()
    flags.DEFINE_string(
        "judge", None, "a run directory, of a classifier; default: the only one of the workdir"
    )
    flags.DEFINE_string("picture", None, "a PNG of samples to write")
    flags.DEFINE_string(
        "interpolation",
        None,
        "a PNG to write of what the widest model makes on the way from one latent to another",
    )
    flags.DEFINE_integer("seed", 0, "of the samples")


def _samples() -> int:
    from scaling.devices import runtime

    given = None if FLAGS.judge is None else given_run("judge")
    if not reachable_workdir():
        raise no_workdir()
    runtime.configure()
    judge_all(FLAGS.workdir, given, FLAGS.picture, FLAGS.seed, FLAGS.interpolation)
    return 0


def judge_all(
    workdir: epath.PathLike,
    by: "RunDirectory | None" = None,
    picture: str | None = None,
    seed: int = 0,
    interpolation: str | None = None,
) -> None:
    """Judge every finished run of a workdir that makes samples; into its `samples.json`, a line a
    run, and the pictures. Raises UserError where there is none, or not one judge.
    """
    from scaling.records import find_runs
    from scaling.train import samples

    done = [run for run in find_runs(workdir) if run.is_done]
    made = [run for run in done if samples.gives(run.config(), "sample")]
    if not made:
        raise UserError(f"no finished run of {workdir} makes samples")
    if by is None:
        others = [run for run in done if run.path not in {one.path for one in made}]
        seen = [run for run in others if samples.gives(run.config(), "features")]
        if len(seen) != 1:
            raise UserError(
                f"{workdir} has {len(seen)} finished runs that could judge the samples; give one "
                "as --judge"
            )
        (by,) = seen
    judge, rows = samples.Model(by), dict[str, Any]()
    made.sort(key=lambda run: (*_size(run.config()), str(run.path)))
    for run, label in zip(made, _labels(made), strict=True):
        found, images = samples.judge(run, judge, seed)
        run.write_samples(samples.as_record(found))
        print(
            f"{run.path.name} ({label}): distance {found.trained:.4g}, "
            f"untrained {found.untrained:.4g}, real {found.real:.4g} "
            f"({found.examples} images, after step {found.step})"
            + ("" if found.right is None else f", {100 * found.right:.1f} % of their class"),
            flush=True,
        )
        rows.setdefault("data", images.real[:_SHOWN])
        rows.setdefault("untrained", images.untrained[:_SHOWN])
        rows[label.replace(", ", "\n")] = images.trained[:_SHOWN]
    if picture is not None:
        _write(picture, rows)
    if interpolation is not None:
        _write(
            interpolation,
            {"data": rows["data"]} | samples.between(samples.Model(made[-1]), _SHOWN, seed=seed),
        )


def _size(config: "RunConfig") -> tuple[float, float]:
    """Width, and what it learns from; None is all."""
    distinct = config.data.unique_units
    return config.model.width, math.inf if distinct is None else distinct


def _labels(runs: "Sequence[RunDirectory]") -> list[str]:
    """What tells each of some runs from the others: its fields that differ, without those in which
    most agree; its fingerprint, where that tells nothing.
    """
    from scaling.config import flat
    from scaling.records.tables import varying

    configs = [flat(run.config()) for run in runs]
    # Some fields are filled in from others, and go with them: of those one is enough.
    together = {}
    for field in varying(configs):
        values = [str(config.get(field)) for config in configs]
        together[tuple(map(values.index, values))] = (field, values)
    told: list[list[str]] = [[] for _ in runs]
    for field, values in sorted(together.values()):
        for value, words in zip(values, told, strict=True):
            if 2 * values.count(value) <= len(values):
                words.append(f"{field.rpartition('.')[2]} {value}")
    labels = [", ".join(words) or "as most" for words in told]
    if len(labels) == 1:
        return [f"width {runs[0].config().model.width}"]
    if len(set(labels)) == len(labels):
        return labels
    return [run.path.name[-12:] for run in runs]


def _write(path: str, rows: "Mapping[str, np.ndarray]") -> None:
    from scaling import files
    from scaling.report.pictures import rows_of_images

    files.write_atomic(epath.Path(path), rows_of_images(rows))
    print(f"picture: {path}", file=sys.stderr)


COMMANDS = {
    "samples": Command(
        "judge and show the images that the runs of a workdir make",
        """Fréchet distance of every run's samples from the validation images, by the features of a
classifier of the same workdir; into the run's samples.json and the table.

  python launch.py samples --workdir=out --picture=out/samples.png \
    --interpolation=out/interpolation.png""",
        _samples_flags,
        _samples,
    ),
}
