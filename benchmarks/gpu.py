"""Tokens a second, MFU and memory of whole training steps on one accelerator.

    python -m benchmarks.gpu [--models=124m,350m,1.3b,moe] [--batch=8] [--set model.remat=dots ...]

Dense GPT shapes and a small mixture of experts, bfloat16, length 2,048, a vocabulary of 50,304,
random tokens, AdamW: the step that the loop runs (`ours.py`), with one batch again and again. Each
model is a process of its own, so that its peak of memory is its own. Prints one line a model, with
the median over rounds, and one JSON object with `--json`.

MFU counts every matmul's FLOPs, forward and backward, the attention in full and nothing that is
computed again, over the bfloat16 peak of the data sheet (`matmul` in `sizes.conventions`);
`causal` is the same with attention only where a query may look.
"""

import argparse
import datetime
import json
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from scaling.costs import sizes
from scaling.devices import peaks

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

VOCAB = 50_304  # GPT-2's, rounded up to a multiple of 128
Fields = dict[str, Any]

# Heads of 64 or 128 channels, a gated MLP of 8/3 of the width: parameters as of GPT-2 and GPT-3
# models of the name.
MODELS: dict[str, Fields] = {
    "124m": {"model.width": 768, "model.depth": 12, "model.heads": 12, "train.batch_size": 16},
    "350m": {"model.width": 1024, "model.depth": 24, "model.heads": 16, "train.batch_size": 16},
    "1.3b": {
        **{"model.width": 2048, "model.depth": 24, "model.heads": 16, "train.batch_size": 8},
        "model.remat": "dots",
    },
    "moe": {  # 124m with 8 experts a block, of which a token meets 2: 0.5B, 181M of them active
        **{"model.width": 768, "model.depth": 12, "model.heads": 12, "train.batch_size": 8},
        **{"model.moe.experts": 8, "model.moe.per_token": 2},
        **{"objective.load_balance": 0.01, "objective.router_z": 0.001},
    },
}
SHARED: Fields = {"model.dtype": "bfloat16", "data.seq_len": 2048, "data.mask_documents": False}
DEBUG: Fields = {
    **{"model.width": 32, "model.depth": 2, "model.heads": 2, "train.batch_size": 2},
    "data.seq_len": 64,
}


def config_of(name: str, debug: bool, batch: int | None, changes: list[str]) -> Any:
    """The resolved run of a model; `changes` are field=value, as the command line has them."""
    import ast

    from scaling.config import RunConfig, override
    from scaling.config.contracts import Facts
    from scaling.config.resolve import resolve

    fields = MODELS[name] | SHARED | (DEBUG if debug else {}) | {"train.steps": 1_000_000}
    if batch is not None:
        fields["train.batch_size"] = batch
    for change in changes:
        field, _, text = change.partition("=")
        try:
            fields[field] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            fields[field] = {"true": True, "false": False}.get(text, text)
    facts = Facts("random", 10**9, 10**9, {"vocab": 512 if debug else VOCAB})
    config = override(RunConfig(), fields | {"evals.batch_size": fields["train.batch_size"]})
    return resolve(config, lambda data, train: facts, sizes.size)


def measure(name: str, config: Any, rounds: int, steps: int) -> dict[str, Any]:
    """One model on the first device: rates, shares of the peak, memory in bytes, seconds."""
    import jax
    import numpy as np

    from benchmarks.ours import Step
    from scaling.devices import xla_flags
    from scaling.train.compilation import planned_bytes

    device = jax.devices()[0]
    shape = (2, config.train.batch_size, config.data.seq_len)
    tokens = np.random.default_rng(0).integers(0, config.model.vocab, shape)
    begin = time.perf_counter()
    step = Step(config, tokens, [device])
    first = float(step()["loss"][0])
    start = time.perf_counter() - begin
    float(step()["loss"][-1])  # the first one after the compilation may still tune and allocate
    calls = []  # seconds of one
    for _ in range(rounds):
        begin = time.perf_counter()
        for _ in range(steps):
            metrics = step()
        last = float(metrics["loss"][-1])
        calls.append((time.perf_counter() - begin) / steps)
    size = sizes.cost(config)
    return {
        "model": name,
        "device": device.device_kind,
        "params": size.params,
        "params_active": size.params_active,
        "batch": config.train.batch_size,
        **rates(config, calls, peaks.peak_flops(device, config.model.dtype)),
        "bytes_planned": planned_bytes(step.compiled),
        "bytes_peak": (device.memory_stats() or {}).get("peak_bytes_in_use"),
        "start_s": start,
        "losses": [first, last],
        "flags": xla_flags.text(config.train.xla_flags, device.platform),
    }


def rates(config: Any, calls: Sequence[float], peak: float | None) -> dict[str, Any]:
    """Of calls that took so many seconds, `train.steps_per_call` steps each; peak: FLOP/s."""

    seconds = [call / config.train.steps_per_call for call in calls]
    step_s = statistics.median(seconds)
    rate = config.train.batch_size * config.data.seq_len / step_s
    flops = sizes.conventions(config)
    return {
        "tokens_per_s": rate,
        "step_s": step_s,
        "step_s_range": [min(seconds), max(seconds)],
        "mfu": rate * flops["matmul"] / peak if peak else None,
        "mfu_causal": rate * flops["matmul_causal"] / peak if peak else None,
        "peak_flops": peak,
    }


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    if "error" in row:
        return f"{row['model']:>5}  {row['error']}"

    def gib(count: float | None) -> str:
        return "     -" if count is None else f"{count / 2**30:6.1f}"

    share = "     -      -"
    if row["mfu"] is not None:
        share = f"{row['mfu']:6.1%} {row['mfu_causal']:6.1%}"
    return (
        f"{row['model']:>5} {row['params'] / 1e6:8.0f}M {row['batch']:5} "
        f"{row['tokens_per_s']:12,.0f} {row['step_s'] * 1e3:9.1f} {share} "
        f"{gib(row['bytes_peak'])} {gib(row['bytes_planned'])} {row['start_s']:6.0f}"
    )


HEAD = "model    params batch     tokens/s   ms/step    MFU causal   peak planned  start"


def child(flags: argparse.Namespace, name: str) -> dict[str, Any]:
    """`measure` in a process of its own; its last words instead, when it died."""
    command = [sys.executable, __file__, f"--child={name}", f"--rounds={flags.rounds}"]
    command += [f"--steps={flags.steps}", *(["--debug"] if flags.debug else [])]
    command += [f"--set={change}" for change in flags.set]
    command += [] if flags.batch is None else [f"--batch={flags.batch}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        words = [text for text in done.stderr.splitlines() if text.strip()]
        return {"model": name, "error": words[-1][:300] if words else f"exit {done.returncode}"}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Flags as in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--batch", type=int, help="windows a step; default: the model's own")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=5, help="calls of the step a round")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--debug", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.debug:
        flags.rounds, flags.steps = 2, 1
    if flags.child:
        config = config_of(flags.child, flags.debug, flags.batch, flags.set)
        print(json.dumps(measure(flags.child, config, flags.rounds, flags.steps)))
        return
    unknown = [name for name in flags.models.split(",") if name not in MODELS]
    if unknown:
        parser.error(f"no model {', '.join(unknown)}; there are {', '.join(MODELS)}")
    print(HEAD)
    rows = []
    for name in flags.models.split(","):
        rows.append(child(flags, name))
        print(line(rows[-1]), flush=True)
    if flags.json:
        import jax

        record = {
            "date": datetime.date.today().isoformat(),
            "command": " ".join(["benchmarks/gpu.py", *sys.argv[1:]]),
            "jax": jax.__version__,
            "rows": rows,
        }
        pathlib.Path(flags.json).write_text(json.dumps(record, indent=2) + "\n")
    if any("error" in row for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
