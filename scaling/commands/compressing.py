"""`launch.py compress`: the weights of trained runs, rounded, packed and measured."""

from typing import Any

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

_METHODS = ("round", "gptq")


def _flags() -> None:
    workdir_flag()
    flags.DEFINE_string("run", None, "one run directory, in the place of all of --workdir")
    flags.DEFINE_list("bits", ["8", "4"], "of a weight, 2 (ternary) to 8; several with commas")
    flags.DEFINE_list("methods", ["round"], f"of rounding: {', '.join(_METHODS)}")


def _bits() -> list[int]:
    wrong = [text for text in FLAGS.bits if text not in map(str, range(2, 9))]
    if wrong or not FLAGS.bits:
        raise UserError(f"--bits={''.join(wrong[:1])} must be a whole number from 2 to 8")
    return [int(text) for text in FLAGS.bits]


def _methods() -> list[Any]:
    wrong = [text for text in FLAGS.methods if text not in _METHODS]
    if wrong or not FLAGS.methods:
        raise UserError(f"--methods={''.join(wrong[:1])} is none of {', '.join(_METHODS)}")
    return list(FLAGS.methods)


def _compress() -> int:
    bits, methods = _bits(), _methods()
    from scaling.devices import runtime

    if FLAGS.run is None and not reachable_workdir():
        raise no_workdir()
    runtime.configure()
    import pandas as pd

    from scaling import files
    from scaling.records import find_runs
    from scaling.train import compression

    one = given_run("run") if FLAGS.run else None
    workdir = epath.Path(FLAGS.workdir) if one is None else one.path.parent.parent
    runs = [run for run in ([one] if one else find_runs(workdir)) if run.is_done]
    if not runs:
        raise UserError(f"{FLAGS.run or workdir} has no run that is done; train it to its end")
    folder = workdir / "compressed"
    files.make_directory(folder)
    rows = [row for run in runs for row in compression.judge(run, bits, methods, folder)]
    frame = pd.DataFrame(rows)
    shown = ["name", "how", "bits", "density", "loss", "bytes_promised", "bytes", "batch_s"]
    print(frame[shown].to_string(index=False, float_format=lambda x: f"{x:.4g}"))
    out = workdir / "compressed.csv" if one is None else folder / f"{one.path.name}.csv"
    files.write_atomic(out, frame.to_csv(index=False).encode())
    print(f"wrote {out} and {len(frame)} files in {folder}")
    return 0


COMMANDS = {
    "compress": Command(
        "round and pack the weights of trained runs, and measure what that costs",
        """The weights of each run that is done, on few levels with a scale an output channel, and
sparse ones as a bitmask with the rest; written, read back and evaluated: how large the files were
promised to be and are, the loss on the validation set, and the seconds of a batch.

  python launch.py compress --run=out/runs/<name> --bits=8,4 --methods=round,gptq
  python launch.py compress --workdir=out --bits=8,4,3,2
  python launch.py fit --table=out/compressed.csv --law=quantization --where='loss_rise>0'""",
        _flags,
        _compress,
    ),
}
