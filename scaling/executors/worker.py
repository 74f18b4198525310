"""A worker process: trains the jobs that its parent sends, one after another.

Protocol: one JSON object a line. In: {"job": ..., "workdir": ...}. Out, on the descriptor that was
standard output: {"ready": true} once, then for each job {"begun": true} and {"results": [{status,
reason, failure}], "last": whether the process ends now}.
One process serves many jobs, so jax is imported once. SIGTERM saves the current job and ends the
process, and so does the end of standard input: without its parent it holds no lock for long.
Started by `scaling/executors/local.py`.
"""

import json
import os
import queue
import signal
import sys
import threading
from typing import TextIO

from scaling.errors import RESUME_ME

_GRACE = 120.0  # seconds that a job has to save itself when the parent is gone


def main() -> None:
    """Serve jobs from standard input until it closes."""
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
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        lines.put(None)
        stop.set()
        threading.Event().wait(_GRACE)
        os._exit(RESUME_ME)  # a compilation, say, that does not look at `stop`

    threading.Thread(target=read, daemon=True).start()

    from scaling.devices import runtime
    from scaling.executors.jobs import Job, run_job
    from scaling.executors.result import to_rows

    runtime.configure()
    _say(replies, {"ready": True})
    while not stop.is_set() and (line := _next(lines, stop)) is not None:
        message = json.loads(line)
        job = Job.from_dict(message["job"])
        _say(replies, {"begun": True})
        results = run_job(job, message["workdir"], stop=stop, quiet=True)
        _say(replies, {"results": to_rows(results), "last": stop.is_set()})
    # At once: the thread that waits for standard input would be in the interpreter's way.
    os._exit(0)


def _next(lines: "queue.SimpleQueue[str | None]", stop: threading.Event) -> str | None:
    """The next line; None when there will be none, or the process was told to end."""
    while not stop.is_set():
        try:
            return lines.get(timeout=0.2)
        except queue.Empty:
            continue
    return None


def _say(replies: TextIO, message: dict[str, object]) -> None:
    try:
        print(json.dumps(message), file=replies, flush=True)
    except BrokenPipeError:
        os._exit(RESUME_ME)  # the parent is gone; what was trained is on disk


if __name__ == "__main__":
    main()
