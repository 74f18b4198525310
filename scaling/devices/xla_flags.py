"""Named presets of XLA flags, by platform: `train.xla_flags`.

They go to the compiler with the step (`compiler_options` of jax.jit), not through the environment,
so that nothing must be set before jax starts, an unknown name is an error of that compilation, and
a platform never sees another's flags. Called by `train/step.py`; the loop prints them.
"""

from collections.abc import Mapping
from typing import Literal

Preset = Literal["none", "overlap", "sparse_core"]
Flags = Mapping[str, bool | int]

# Collectives run beside the matmuls that do not need them. Sources: openxla.org, XLA flags
# guidance;
# for GPUs NVIDIA's JAX-Toolbox, GPU performance.
_TPU_OVERLAP: Flags = {
    "xla_tpu_enable_latency_hiding_scheduler": True,
    # A collective is cut into steps that are fused with matmuls.
    "xla_tpu_enable_async_collective_fusion": True,
    "xla_tpu_enable_async_collective_fusion_multiple_steps": True,
    "xla_tpu_overlap_compute_collective_tc": True,
    # Collective matmul: an all-gather or reduce-scatter next to an einsum goes piece by piece.
    "xla_tpu_decompose_all_gather_einsum": True,
    "xla_tpu_decompose_einsum_reduce_scatter": True,
    # Gradients of data parallelism are reduced while the backward pass goes on.
    "xla_tpu_enable_data_parallel_all_reduce_opt": True,
    "xla_tpu_data_parallel_opt_different_sized_ops": True,
}
_TPU_SPARSE_CORE: Flags = {
    "xla_tpu_enable_latency_hiding_scheduler": True,
    # The collectives run on the SparseCores; nothing may fuse them into matmuls then.
    "xla_tpu_enable_async_collective_fusion_fuse_all_gather": False,
    "xla_tpu_enable_async_collective_fusion_fuse_all_reduce": False,
    "xla_tpu_enable_async_collective_fusion_fuse_reduce_scatter": False,
    "xla_tpu_enable_sparse_core_collective_offload_all_gather": True,
    "xla_tpu_enable_sparse_core_collective_offload_all_reduce": True,
    "xla_tpu_enable_sparse_core_collective_offload_reduce_scatter": True,
    "xla_tpu_use_tc_device_shape_on_sc": True,
}
_MIB = 2**20
_GPU_OVERLAP: Flags = {
    "xla_gpu_enable_latency_hiding_scheduler": True,
    # A collective of one turn of a loop over layers runs during the turn before or after.
    "xla_gpu_enable_pipelined_all_gather": True,
    "xla_gpu_enable_pipelined_all_reduce": True,
    "xla_gpu_enable_pipelined_reduce_scatter": True,
    "xla_gpu_enable_while_loop_double_buffering": True,
    # Small ones are joined until they are this large.
    "xla_gpu_all_gather_combine_threshold_bytes": 128 * _MIB,
    "xla_gpu_all_reduce_combine_threshold_bytes": 128 * _MIB,
    "xla_gpu_reduce_scatter_combine_threshold_bytes": 64 * _MIB,
}

PRESETS: Mapping[Preset, Mapping[str, Flags]] = {  # preset -> platform -> flags
    "none": {},
    "overlap": {"tpu": _TPU_OVERLAP, "gpu": _GPU_OVERLAP},
    "sparse_core": {"tpu": _TPU_SPARSE_CORE, "gpu": _GPU_OVERLAP},
}


def options(preset: Preset, platform: str) -> dict[str, bool | int]:
    """Compiler options of the preset on a platform as jax names it; none where it has none."""
    return dict(PRESETS[preset].get(platform, {}))


def text(preset: Preset, platform: str) -> str:
    """One line for the start of a run."""
    flags = " ".join(f"{name}={str(v).lower()}" for name, v in options(preset, platform).items())
    return f"XLA flags ({preset} on {platform}): {flags or 'the defaults'}"
