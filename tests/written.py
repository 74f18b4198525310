"""Run directories as a trainer would have left them, without the training."""

import math
import pathlib

from scaling.config import RunConfig, override
from scaling.config.provenance import provenance
from scaling.records import RunDirectory


def resolved(**overrides: object) -> RunConfig:
    fields = {"train.steps": 20, "data.corpus": "c0ffee", "evals.sets.val.corpus": "c0ffee"}
    return override(
        RunConfig(), {**fields, **{k.replace("__", "."): v for k, v in overrides.items()}}
    )


def size(config: RunConfig) -> dict[str, float]:
    params = 12 * config.model.depth * config.model.width**2
    tokens = config.train.steps * config.train.batch_size * config.data.seq_len
    return {
        "params": params + 256 * config.model.width,
        "params_non_embedding": params,
        "flops_per_token": 6.0 * params,
        "tokens": tokens,
        "flops": 6.0 * params * tokens,
    }


def started(config: RunConfig, workdir: pathlib.Path) -> RunDirectory:
    run = RunDirectory.open(config, workdir)
    run.start(config, provenance() | {"device_kind": "cpu", "device_count": 1}, size=size(config))
    return run


def finished(config: RunConfig, workdir: pathlib.Path, loss: float) -> RunDirectory:
    run = started(config, workdir)
    run.append({"step": 10, "split": "train", "loss": loss + 0.3})
    run.append({"step": 10, "split": "val", "loss": loss + 0.2, "loss_se": 0.02})
    for name in config.evals.sets:
        shift = 0.0 if name == "val" else 0.5
        run.append(
            {
                "step": 20,
                "split": name,
                "loss": loss + shift,
                "loss_se": 0.01,
                "bits_per_byte": (loss + shift) / math.log(2),
            }
        )
    run.write_status("done", step=20, steps=20)
    return run
