"""Our training step at a given shape, outside the loop: for the benchmarks of this folder."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from scaling.config import RunConfig, from_dict, programs
from scaling.costs import counts
from scaling.devices import meshes, sharding
from scaling.train import state as state_lib
from scaling.train.placement import place
from scaling.train.step import compile_steps

VOCAB, HEAD_DIM = 257, 32  # bytes and a separator


def config_of(
    width: int, depth: int, length: int, batch: int, **groups: dict[str, Any]
) -> RunConfig:
    """A resolved run of this shape on a corpus that does not exist; `groups` adds fields."""
    heads = max(1, width // HEAD_DIM)
    model = {
        **{"width": width, "depth": depth, "heads": heads, "kv_heads": heads, "vocab": VOCAB},
        **{"head_dim": width // heads, "mlp_width": -(-8 * width // 48) * 16},
        "scan_layers": False,
    }
    values: dict[str, dict[str, Any]] = {
        "model": model,
        "data": {"seq_len": length, "corpus": "random"},
        "optim": {"warmup_steps": 0, "warmup_fraction": None},
        "train": {"batch_size": batch, "steps": 1_000_000},
    }
    return from_dict({k: v | groups.get(k, {}) for k, v in (groups | values).items()})


def random_tokens(config: RunConfig) -> np.ndarray:
    """Tokens and targets, [2, batch, length]."""
    data: Any = config.data
    shape = (2, config.train.batch_size, data.seq_len)
    return np.random.default_rng(0).integers(0, VOCAB, shape)


class Step:
    """The compiled step with a state of its own; a call makes `train.steps_per_call` updates."""

    def __init__(
        self,
        config: RunConfig,
        tokens: np.ndarray | None = None,
        devices: Sequence[jax.Device] | None = None,
    ):
        """tokens: int [2, batch, length], tokens and targets; random by default. devices: of the
        mesh; all by default.
        """
        tokens, targets = random_tokens(config) if tokens is None else tokens
        calls, shape = config.train.steps_per_call, tokens.shape
        positions = np.broadcast_to(np.arange(shape[1], dtype=np.int32), shape)
        ones = np.ones(shape, np.int32)
        batch = {
            **{"tokens": tokens.astype(np.int32), "targets": targets.astype(np.int32)},
            **{"positions": positions, "segment_ids": ones},
            **{"loss_mask": ones.astype(np.float32), "target_bytes": ones},
        }
        names = counts.batch_shapes(config)
        batches = {name: np.broadcast_to(batch[name], (calls, *shape)) for name in names}
        mesh = meshes.make_mesh(config.mesh, devices)
        pieces = state_lib.parts(config)
        plan = state_lib.layout(pieces, config, mesh)
        with sharding.context(mesh):
            self.state = state_lib.init(pieces, config, plan)
            everywhere = sharding.replicated(mesh)
            self._arguments = (
                place(batches, sharding.stacked_batch_sharding(mesh)),
                place(np.int32(calls), everywhere),
                place(programs.hparams(config), everywhere),
            )
            step = compile_steps(pieces, config, plan)
            self.compiled = step.lower(self.state, *self._arguments).compile()

    def __call__(self) -> dict[str, jax.Array]:
        """The metrics, [steps_per_call] each, not yet waited for."""
        self.state, metrics = self.compiled(self.state, *self._arguments)
        return metrics
