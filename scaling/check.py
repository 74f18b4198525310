"""How a run lies on its mesh and what it costs, as text: `launch.py check`.

Takes a resolved run; compiles and trains nothing. The sharding table is that of the real train
state, from `eval_shape`.
"""

import jax

from scaling import costs, ladder, sharding
from scaling.config import RunConfig, run_name
from scaling.train import state as state_lib
from scaling.units import human


def check(config: RunConfig) -> str:
    """Sharding of every leaf, counts by every convention, and an estimate of the memory.

    Raises ConfigError when the run does not fit the mesh or the devices at hand.
    """
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(config, mesh)
    plan = state_lib.layout(state_lib.parts(config), config, mesh)
    cost, memory = ladder.cost(config), costs.estimate_bytes(config, mesh.size)
    sizes = " x ".join(f"{axis} {n}" for axis, n in mesh.shape.items() if n > 1) or "one device"
    conventions = "  ".join(f"{k} {human(v)}" for k, v in ladder.flops_per_token(config).items())
    parts = ("params", "gradients", "optimizer", "activations")
    pieces = "  ".join(f"{name} {human(getattr(memory, name))}B" for name in parts)
    return "\n".join(
        [
            run_name(config),
            f"mesh: {sizes} ({mesh.size} x {jax.devices()[0].device_kind})",
            "",
            sharding.table(sharding.check(plan.boxed, plan.shardings, mesh)),
            "",
            f"params: {cost.params:,} total, {cost.params_non_embedding:,} without embeddings",
            f"training: {config.train.steps:,} steps, {human(cost.tokens)} tokens, "
            f"{cost.flops:.3g} FLOPs",
            f"FLOPs a token, by convention: {conventions}",
            f"memory a device, estimated: {human(memory.total)}B ({pieces})",
        ]
    )
