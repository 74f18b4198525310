"""`launch.py ensemble`: what runs that differ in their seeds alone predict together, and the
snapshots of one training.
"""

from typing import Any

from absl import flags
from etils import epath

from scaling.commands.command import FLAGS, Command, no_workdir, reachable_workdir, workdir_flag
from scaling.errors import UserError


def _flags() -> None:
    workdir_flag()
    flags.DEFINE_bool("weights", False, "average the weights too, beside the predictions")
    flags.DEFINE_string("out", None, "a CSV file to write; default: <workdir>/ensembles.csv")


def _ensemble() -> int:
    from scaling.devices import runtime

    if not reachable_workdir():
        raise no_workdir()
    runtime.configure()
    import pandas as pd

    from scaling import files
    from scaling.records import find_runs
    from scaling.train import ensemble

    found = find_runs(FLAGS.workdir)
    groups, chains = ensemble.alike(found), ensemble.chains(found)
    if not groups + chains:
        raise UserError(
            f"{FLAGS.workdir} has no two finished runs that differ in their seeds alone; train "
            "some, such as with --config.seed, or with_seeds in a study"
        )
    asked: list[tuple[Any, ensemble.How, str]] = [
        (group, "predictions", "predictions") for group in groups
    ]
    asked += [(chain, "predictions", "snapshots") for chain in chains]
    if FLAGS.weights:
        asked += [(group, "weights", "weights") for group in groups]
        asked += [(chain, "weights", "weights of snapshots") for chain in chains]
    rows = list[dict[str, Any]]()
    for number, (runs, how, called) in enumerate(asked, start=1):
        print(f"[{number}/{len(asked)}] {called} of {len(runs)} like {runs[0].path.name}")
        rows += [row | {"how": called} for row in ensemble.judge(runs, how)]
    frame = pd.DataFrame(rows).sort_values(["how", "params", "members"], ignore_index=True)
    shown = [c for c in ("accuracy", "calibration_error") if c in frame]
    columns = ["how", "width", "depth", "members", "flops", "loss", "loss_se", *shown]
    print(frame[columns].to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    out = epath.Path(FLAGS.out or f"{FLAGS.workdir}/ensembles.csv")
    files.write_atomic(out, frame.to_csv(index=False).encode())
    print(f"wrote {out}")
    return 0


COMMANDS = {
    "ensemble": Command(
        "average the predictions of runs that differ in their seeds alone",
        """The numbers of the validation set, of the mean prediction of one, two, ... runs of a
model, with the parameters and FLOPs of all of them: one large model, or several small ones? Runs
that began each with the one before it, and are alike otherwise, are the snapshots of one training.

  python launch.py ensemble --workdir=out
  python launch.py fit --table=out/ensembles.csv --law=power_floor --x=flops --by=members""",
        _flags,
        _ensemble,
    ),
}
