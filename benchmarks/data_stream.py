"""What the steps to come cost a stream of batches, before its first one: time and memory.

    python -m benchmarks.data_stream [--steps=20000000] [--debug]

Each length runs in a process of its own, so that its peak of memory is its own; the ratio is that
of a thousand times the steps.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
THOUSAND = 1000
ROUNDS, READ = 3, 200  # streams, and batches of each before the peak is taken


def measured(steps: int) -> dict[str, float]:
    """Seconds to the first batch of a run of `steps`, and MB that the stream added by then."""
    from configs import lm
    from scaling import data
    from scaling.config import from_dict, override
    from scaling.studies import study

    config = override(from_dict(lm.get_config("debug")), {"train.steps": steps})
    batches = data.train_batches(study.resolve(config))
    for _ in batches.stream(0, READ):  # imports, and the order of the first epoch
        pass
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        stream = batches.stream(0, steps)
        next(stream)
        times.append(time.perf_counter() - begun)
        for _ in range(READ):
            next(stream)
        del stream  # ends it
    return {
        "seconds": statistics.median(times),
        "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def apart(steps: int) -> dict[str, float]:
    """`measured`, in a process of its own."""
    command = [sys.executable, __file__, f"--measure={steps}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=20_000_000)
    parser.add_argument("--debug", action="store_true", help="short, to see that it runs")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.measure:
        print(json.dumps(measured(flags.measure)))
        return
    most = 1_000_000 if flags.debug else flags.steps
    short, long = apart(most // THOUSAND), apart(most)
    for steps, found in ((most // THOUSAND, short), (most, long)):
        print(
            f"{steps:>12,} steps: first batch after {found['seconds'] * 1e3:.1f} ms, "
            f"{found['mb']:.1f} MB more"
        )
    print(f"ratio of the times {long['seconds'] / short['seconds']:.2f}")


if __name__ == "__main__":
    main()
