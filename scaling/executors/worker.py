"""A worker process: trains the runs that its parent sends, one after another.

Protocol: one JSON object a line. In: {"config": ..., "workdir": ...}. Out, on the descriptor that
was standard output: {"status": ..., "reason": ...}. One process serves many runs, so jax is
imported once. SIGTERM saves the current run and ends the process. Started by
`scaling/executors/local.py`.
"""

import json
import os
import signal
import sys
import threading


def main() -> None:
    """Serve runs from standard input until it closes."""
    cores = os.environ.get("SCALING_WORKER_CORES")
    if cores:
        # Before jax is imported: its thread pool is as large as the cores that it sees.
        os.sched_setaffinity(0, {int(c) for c in cores.split(",")})
    # Replies own the original standard output; what any library prints goes to the log.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides

    from scaling import runtime
    from scaling.config import from_dict
    from scaling.errors import UserError
    from scaling.train.loop import train

    runtime.configure()
    for line in sys.stdin:
        job = json.loads(line)
        try:
            outcome = train(from_dict(job["config"]), job["workdir"], stop=stop, quiet=True)
            reply = {"status": outcome.status, "reason": outcome.reason}
        except UserError as error:
            reply = {"status": "failed", "reason": str(error)}
        except Exception as error:
            import traceback

            traceback.print_exc()
            reply = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
        if stop.is_set():
            break


if __name__ == "__main__":
    main()
