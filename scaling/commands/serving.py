"""`launch.py serve`: runs that continue texts, asked over HTTP."""

from typing import TYPE_CHECKING

from absl import flags
from etils import epath

from scaling.commands.command import FLAGS, Command, run_at, stop_on_signals
from scaling.errors import UserError

if TYPE_CHECKING:
    from scaling.records import RunDirectory


def _flags() -> None:
    flags.DEFINE_multi_string(
        "run", [], "a run directory with a checkpoint, or <name>=<directory>; may be given again"
    )
    flags.DEFINE_string("host", "127.0.0.1", "address to listen at; this one is of this machine")
    flags.DEFINE_integer("port", 8000, "port to listen at; 0: any that is free", 0, 65535)
    flags.DEFINE_integer(
        "tokens", None, "of a text with its continuation at most; default: as trained", 2
    )
    flags.DEFINE_integer("batch", 16, "rows that are continued at once", 1, 1024)
    flags.DEFINE_integer("waiting", 256, "rows that may wait; more are answered 429", 1)
    flags.DEFINE_integer("body", 2**20, "bytes of a request at most", 1)


def _serve() -> int:
    given: dict[str, RunDirectory] = {}
    for one in FLAGS.run:
        name, equals, path = one.partition("=")
        if not equals or epath.Path(one).exists():  # a folder's own name may have a sign in it
            name, path = "", one
        run = run_at("run", path)
        name = name or run.path.name
        if name in given:
            raise UserError(f"--run={one}: there is a run {name} already; give it another name")
        given[name] = run
    if not given:
        raise UserError("serve: give --run, a run directory such as out/runs/<run>")
    stop = stop_on_signals()
    from scaling.devices import runtime

    runtime.configure()
    from scaling.serving.model import Model, round_down
    from scaling.serving.server import Bounds, Server

    rows = round_down(FLAGS.batch)
    models = {name: Model(run, name, FLAGS.tokens, rows) for name, run in given.items()}
    bounds = Bounds(waiting=FLAGS.waiting, rows=min(128, FLAGS.waiting), body=FLAGS.body)
    server = Server(FLAGS.host, FLAGS.port, models, bounds)
    for model in models.values():
        print(f"{model.name}: up to {model.limit} tokens; compiled as asked for: {model.shapes}")
    print(f"serving at {server.address}/v1 until Ctrl-C", flush=True)
    server.serve_until(stop)
    print("stopped; all that was asked is answered", flush=True)
    return 0


COMMANDS = {
    "serve": Command(
        "answer completions of trained runs over HTTP",
        """Continue and score texts for clients of OpenAI's completions. Only this machine can ask,
unless --host says otherwise; nobody is asked who they are.

  python launch.py serve --run=out/runs/<run>
  python launch.py serve --run=small=out/runs/<a> --run=large=out/runs/<b> --port=8001
  curl localhost:8000/v1/completions -H 'Content-Type: application/json' \\
    -d '{"prompt": "def main(", "max_tokens": 32, "temperature": 0}'""",
        _flags,
        _serve,
    ),
}
