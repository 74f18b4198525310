"""Whether a run fits the TPUs that would be rented for it, before any are.

`estimated` is the answer where the TPU compiler is not installed; the commands ask `scaling/check`
where it is. A run that does not fit is `refuse`d: its directory says why, the others go on.
"""

import dataclasses

import jax
from etils import epath

from scaling import ladder, memory, sharding
from scaling.config import RunConfig
from scaling.errors import UserError
from scaling.executors.result import Result
from scaling.provenance import provenance
from scaling.records import RunDirectory
from scaling.slices import Slice
from scaling.units import binary


def target_name(found: Slice, count: int) -> str:
    """ "v5e:4x4", "2 x v5e:4x4"."""
    return found.name if count == 1 else f"{count} x {found.name}"


def problem(needs: float, limit: float, where: str, how: str) -> str | None:
    """Why a run does not fit, with the numbers; None when it does.

    Args:
      needs: bytes of one device.
      limit: bytes that it has.
      where: the slice.
      how: the numbers were found.
    """
    if needs <= limit:
        return None
    return (
        f"does not fit {where}: {binary(needs)} a chip, which has {binary(limit)} ({how}); give it "
        "more chips, shard it over them (mesh.fsdp, mesh.tensor), or lower train.batch_size, raise "
        "train.microbatches or model.remat"
    )


def estimated(config: RunConfig, found: Slice, count: int) -> str | None:
    """`problem` by `memory.estimate_bytes`, which knows no compiler: within some 20 %."""
    how = "estimated: the TPU compiler, the extra `tpu`, is not installed here"
    try:
        sizes = sharding.mesh_sizes(config.mesh, found.chips * count, count)
        mesh = jax.sharding.AbstractMesh(tuple(sizes[a] for a in sharding.AXES), sharding.AXES)
        sharding.check_batch(config, mesh)
        needs = memory.estimate_bytes(config, found.chips * count, platform="tpu").total
    except UserError as error:
        return str(error)
    return problem(needs, found.chip.hbm_bytes, target_name(found, count), how)


def refuse(
    config: RunConfig, workdir: epath.PathLike, why: str, found: Slice, count: int
) -> Result:
    """Write down that a run was not begun, and why, where `status` and the table find it."""
    run = RunDirectory.open(config, workdir)
    kind = {"device_kind": found.name, "device_count": found.chips * count}
    run.start(config, provenance() | kind, dataclasses.asdict(ladder.cost(config)))
    run.write_status("failed", reason=f"refused: {why}", step=0, steps=config.train.steps)
    return Result(config, "failed", f"refused: {why}", "config")
