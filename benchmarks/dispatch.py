"""What a run spends beside its steps: dispatch, input, checkpoints, start-up and resume.

    python -m benchmarks.dispatch [--rounds=5] [--debug]

Each part prints a ratio from one run: time a step with one and with 16 steps a dispatch as the
model shrinks; tokens a second of the input pipeline against the step's; the stall of a checkpoint
in steps; time to the first step cold, with the compilation cache, and resumed.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
STEPS = 16  # a dispatch


def seconds_a_step(step: Callable[[], object], steps: int, at_least: float) -> float:
    """Seconds of one update, from calls that make `steps` of them each."""
    import jax

    calls, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < at_least:
        metrics = step()
        calls += 1
    jax.block_until_ready(metrics)
    return (time.perf_counter() - begin) / calls / steps


def dispatch(widths: list[int], rounds: int, turn: float) -> None:
    """Time a step with and without several steps a dispatch."""
    from benchmarks.ours import Step, config_of

    print(f"time a step, one step a dispatch against {STEPS} (two blocks, windows of 64, batch 4)")
    for width in widths:
        one = Step(config_of(width, 2, 64, 4))
        several = Step(config_of(width, 2, 64, 4, train={"steps_per_call": STEPS}))
        times = []
        for _ in range(rounds):
            times.append((seconds_a_step(one, 1, turn), seconds_a_step(several, STEPS, turn)))
        apart = statistics.median(a for a, _ in times) * 1e3
        together = statistics.median(b for _, b in times) * 1e3
        ratio = statistics.median(a / b for a, b in times)
        print(f"  width {width:>4}  {apart:8.3f} ms  {together:8.3f} ms  ratio {ratio:.2f}")


def run_config(width: int, length: int, batch: int):
    """A resolved run on the embedded corpus."""
    from configs import lm
    from scaling.config import from_dict, override
    from scaling.studies import study

    fields = {"model.width": width, "model.heads": max(1, width // 32), "data.seq_len": length}
    steps = {"train.batch_size": batch, "train.steps": 10**6, "train.tokens_per_param": None}
    return study.resolve(override(from_dict(lm.get_config("debug")), fields | steps))


def pipeline(width: int, rounds: int, turn: float) -> None:
    """Tokens a second that the input gives, and that the step takes."""
    from benchmarks.ours import Step, config_of
    from scaling import data

    length, batch = 256, 16
    batches = data.train_batches(run_config(width, length, batch))
    step = Step(config_of(width, 4, length, batch))
    ratios, given = [], []
    for _ in range(rounds):
        items, begin = 0, time.perf_counter()
        for _ in batches.stream(0, len(batches)):
            items += 1
            if time.perf_counter() - begin > turn:
                break
        input_s = (time.perf_counter() - begin) / items
        given.append(length * batch / input_s)
        ratios.append(seconds_a_step(step, 1, turn) / input_s)
    print(f"\ninput: {statistics.median(given):,.0f} tokens/s, ", end="")
    print(f"{statistics.median(ratios):.1f}x what a model of width {width}, depth 4 takes")


def checkpoints(width: int, rounds: int) -> None:
    """How long the loop waits in a save, in steps."""
    from benchmarks.ours import Step
    from scaling.train.checkpoint import Checkpoints

    config = run_config(width, 256, 16)
    step = Step(config)
    one = seconds_a_step(step, 1, 1.0)
    stalls, whole = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        Checkpoints(pathlib.Path(folder) / "checkpoints", config) as saved,
    ):
        for i in range(rounds):
            begin = time.perf_counter()
            saved.save(i + 1, step.state)
            stalls.append(time.perf_counter() - begin)
            saved.wait()
            whole.append(time.perf_counter() - begin)
    stall, total = statistics.median(stalls), statistics.median(whole)
    print(
        f"\ncheckpoint of a model of width {width}: the loop waits {stall / one:.2f} steps, ",
        end="",
    )
    print(f"{stall / total:.0%} of the save; the rest is written while it trains")


def start_up(rounds: int) -> None:
    """From the command to the first line of metrics: cold, with the cache, and resumed."""
    times: dict[str, list[float]] = {"cold": [], "cached": [], "resumed": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("cold", "cached"):
                times[name].append(first_line(folder, steps=4, workdir=f"{folder}/{name}"))
            # A run that is told to stop after its first steps, and the same command once more.
            for _ in range(2):
                resumed = first_line(folder, steps=100_000, workdir=f"{folder}/stopped")
            times["resumed"].append(resumed)
    cold, cached, again = (statistics.median(times[k]) for k in ("cold", "cached", "resumed"))
    print(
        f"\nto the first step: {cold:.1f} s cold, {cached:.1f} s with the compilation cache ",
        end="",
    )
    print(f"({cold / cached:.1f}x), {again:.1f} s resumed ({cold / again:.1f}x)")


def first_line(folder: str, steps: int, workdir: str) -> float:
    """Seconds from the start of `launch.py train` to a new line in metrics.jsonl; then it is told
    to stop, and saves.
    """
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
    command = [sys.executable, str(ROOT / "launch.py"), "train", f"--workdir={workdir}"]
    command += [f"--config={ROOT}/configs/lm.py:debug", f"--config.train.steps={steps}"]
    command += ["--config.train.log_every=1"]
    files = list(pathlib.Path(workdir).glob("runs/*/metrics.jsonl"))
    before = last_step(files[0]) if files else 0
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while process.poll() is None:
        files = list(pathlib.Path(workdir).glob("runs/*/metrics.jsonl"))
        if files and last_step(files[0]) > before:
            break
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    process.terminate()
    _, messages = process.communicate()
    if not files:
        raise RuntimeError(f"the run wrote nothing: {messages.decode()[-1000:]}")
    return seconds


def last_step(path: pathlib.Path) -> int:
    """Step of the last whole line, 0 if there is none."""
    lines = path.read_text().splitlines()
    try:
        return json.loads(lines[-1])["step"] if lines else 0
    except json.JSONDecodeError:
        return 0


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--debug", action="store_true", help="tiny and once, to see that it runs")
    flags = parser.parse_args()
    rounds, turn = (1, 0.05) if flags.debug else (flags.rounds, 1.0)
    dispatch([16] if flags.debug else [16, 32, 64, 128], rounds, turn)
    pipeline(32 if flags.debug else 128, rounds, turn)
    checkpoints(32 if flags.debug else 256, rounds)
    start_up(min(rounds, 3))


if __name__ == "__main__":
    main()
