"""`launch.py explain`: why a run says what it says of one example, as a page."""

import sys

from absl import flags
from etils import epath

from scaling.commands.command import FLAGS, Command, given_run
from scaling.errors import UserError, nearest
from scaling.records.explanation import METHODS

PAGE = "explained.html"  # in the run's directory


def _explain_flags() -> None:
    flags.DEFINE_string("run", None, "a run directory with a checkpoint")
    flags.DEFINE_integer("row", 0, "of the validation set, from 0", lower_bound=0)
    flags.DEFINE_string("text", None, "a text to read, instead of a row")
    flags.DEFINE_integer(
        "place",
        None,
        "of a text, whose prediction is explained; default: the last that counts",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "side", None, "pixels of the squares that are taken out of an image", lower_bound=1
    )
    flags.DEFINE_list("method", None, f"some of {', '.join(METHODS)}; default: all that fit")
    flags.DEFINE_string("out", None, f"the page; default: {PAGE} in the run's directory")


def _explain() -> int:
    for method in ("",) if FLAGS.method == [] else FLAGS.method or ():
        if method not in METHODS:
            raise UserError(
                f"--method={method} is none of {', '.join(METHODS)}{nearest(method, METHODS)}"
            )
    if FLAGS.run is None:
        raise UserError("explain: give --run, a run directory such as out/runs/<run>")
    run = given_run("run")
    from scaling import files
    from scaling.devices import runtime
    from scaling.explain import example, explanation
    from scaling.report.explained import render
    from scaling.train.opened import newest

    runtime.configure()
    opened = newest(run)
    if FLAGS.text is None:
        one = example.of_row(opened.config, FLAGS.row)
    else:
        one = example.of_text(opened.config, FLAGS.text)
    found = explanation.explain(opened, one, FLAGS.method, FLAGS.place, FLAGS.side)
    out = run.path / PAGE if FLAGS.out is None else epath.Path(FLAGS.out)
    files.write_atomic(out, render(found).encode())
    print(f"{found.example}: {found.said}")
    for part in found.maps:
        gap = "" if part.gap is None else f", off by {part.gap:.1e}"
        redrawn = "" if part.redrawn is None else f", with other weights {part.redrawn:+.2f}"
        print(f"{part.method}: {part.explained:+.3f} over the baseline{gap}{redrawn}")
    print(f"page: {out}", file=sys.stderr)
    return 0


COMMANDS = {
    "explain": Command(
        "why a run says what it says of one example: a page with text and images coloured",
        """Trace one prediction of a trained run back to its input, and look inside; writes a page.

  python launch.py explain out/runs/<run> --row=3
  python launch.py explain out/runs/<run> --text='def main(argv):' --method=gradients,lens

Integrated gradients and occlusion say what of the input made the prediction, attention where each
head looks, the logit lens what the stream says behind each block. docs/explaining.md has more.""",
        _explain_flags,
        _explain,
        arguments=("run",),
    ),
}
