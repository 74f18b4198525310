"""Our training step against PyTorch's, a plain Flax one, and the machine's matmul peak.

    python -m benchmarks.train_step [--shapes=64x2x128x16,...] [--rounds=7] [--devices=1]

Same shape, float32, AdamW with a clipped gradient, one batch again and again. Each competitor is a
process of its own that holds its model and waits; rounds go through all of them in turn, so that
what else the machine does falls on all alike. Prints medians over the rounds of tokens a second and
of the ratios taken within a round. Needs PyTorch (`pip install '.[bench]'`).
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from scaling.devices import peaks

ROOT = pathlib.Path(__file__).parent.parent
SHAPES = "64x2x128x16,128x4x256x16,256x6x256x16"  # width, depth, length, batch
VOCAB, HEAD_DIM = 257, 32  # as in ours.py, which cannot be imported before the flags are read
COMPETITORS = ("ours", "plain Flax", "PyTorch")
SECONDS = 1.0  # a turn


def mlp_width(width: int) -> int:
    """As `scaling.config.resolve` fills it in."""
    return -(-8 * width // 48) * 16


def ours(shape: tuple[int, ...], devices: int) -> Callable[[], float]:
    """The compiled step of `scaling/train/step.py`, as the loop calls it."""
    import jax

    jax.config.update("jax_num_cpu_devices", devices)
    from benchmarks.ours import Step, config_of

    step = Step(config_of(*shape), random_tokens(shape))
    return lambda: float(step()["loss"][0])


def plain_flax(shape: tuple[int, ...]) -> Callable[[], float]:
    """Flax's own layers."""
    import jax.numpy as jnp

    from benchmarks.gpt_flax import GPT, trainer

    width, depth, *_ = shape
    tokens, targets = (jnp.asarray(x, jnp.int32) for x in random_tokens(shape))
    model = GPT(VOCAB, width, depth, width // HEAD_DIM, mlp_width(width))
    return trainer(model, tokens, targets)


def pytorch(shape: tuple[int, ...]) -> Callable[[], float]:
    """PyTorch, eager."""
    import torch

    from benchmarks.gpt_torch import GPT, trainer

    width, depth, length, _ = shape
    tokens, targets = (torch.as_tensor(x, dtype=torch.int64) for x in random_tokens(shape))
    model = GPT(VOCAB, width, depth, width // HEAD_DIM, mlp_width(width), length)
    return trainer(model, tokens, targets)


def random_tokens(shape: tuple[int, ...]):
    """Tokens and targets, [batch, length]."""
    import numpy as np

    _, _, length, batch = shape
    return np.random.default_rng(0).integers(0, VOCAB, (2, batch, length))


def child(name: str, shape: tuple[int, ...], devices: int) -> None:
    """Build and warm up, then answer each line on stdin with seconds a step over one turn."""
    begin = time.perf_counter()
    if name == "ours":
        step = ours(shape, devices)
    else:
        step = plain_flax(shape) if name == "plain Flax" else pytorch(shape)
    losses = [step() for _ in range(3)]
    print(json.dumps({"start": time.perf_counter() - begin, "losses": losses}), flush=True)
    for _ in sys.stdin:
        steps, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < SECONDS:
            step()
            steps += 1
        print(json.dumps((time.perf_counter() - begin) / steps), flush=True)


def peak() -> float:
    """FLOP/s of the machine in a float32 matmul."""

    peaks.measured_cpu_peak.cache_clear()
    return peaks.measured_cpu_peak()


def flops_per_token(shape: tuple[int, ...]) -> float:
    """Of a training step's matmuls, attention in full."""
    width, depth, length, _ = shape
    params = depth * (4 * width**2 + 3 * width * mlp_width(width)) + VOCAB * width
    return 6 * params + 12 * depth * width * length


def compare(shape: tuple[int, ...], rounds: int, devices: int, names: list[str]) -> None:
    """Prints the line of every competitor at one shape."""
    width, depth, length, batch = shape
    command = [sys.executable, __file__, f"--shapes={'x'.join(map(str, shape))}"]
    command += [f"--devices={devices}"]
    children: dict[str, Any] = {  # Popen, whose pipes are there
        name: subprocess.Popen(
            [*command, f"--child={name}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in names
    }
    started = {name: json.loads(process.stdout.readline()) for name, process in children.items()}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    peaks = []
    for _ in range(rounds):
        for name, process in children.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            seconds[name].append(json.loads(process.stdout.readline()))
        peaks.append(peak())
    for process in children.values():
        process.stdin.close()
        process.wait()
    tokens = length * batch
    flops = flops_per_token(shape) * tokens
    print(f"\nwidth {width}, depth {depth}, length {length}, batch {batch}")
    for name in names:
        rate = tokens / statistics.median(seconds[name])
        of_peak = statistics.median(
            flops / s / p for s, p in zip(seconds[name], peaks, strict=True)
        )
        line = f"  {name:<11} {rate:>9,.0f} tokens/s  {of_peak:4.0%} of the matmul peak"
        if name != "ours" and "ours" in names:
            ratios = [b / a for a, b in zip(seconds["ours"], seconds[name], strict=True)]
            low, high = min(ratios), max(ratios)
            line += f"  ours is {statistics.median(ratios):.2f}x [{low:.2f}, {high:.2f}]"
        first = started[name]
        print(f"{line}  (first step after {first['start']:.1f} s, loss {first['losses'][-1]:.2f})")


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shapes", default=SHAPES)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--devices", type=int, default=1, help="CPU devices of ours")
    parser.add_argument("--only", default=",".join(COMPETITORS))
    parser.add_argument("--child", choices=COMPETITORS)
    flags = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    shapes = [tuple(map(int, text.split("x"))) for text in flags.shapes.split(",")]
    if flags.child:
        child(flags.child, shapes[0], flags.devices)
        return
    for shape in shapes:
        compare(shape, flags.rounds, flags.devices, flags.only.split(","))


if __name__ == "__main__":
    main()
