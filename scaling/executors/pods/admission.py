"""Whether a run fits the TPUs that would be rented for it, before any are.

`estimated` is the answer where the TPU compiler is not installed; the commands ask `scaling/check`
where it is. What becomes of a run that does not fit: `scaling/executors/admission.py`.
"""

import os

from etils import epath

from scaling import files
from scaling.check import memory
from scaling.config import RunConfig
from scaling.devices import meshes
from scaling.devices.slices import Slice
from scaling.errors import UserError
from scaling.units import binary


def check_workdir(workdir: epath.PathLike) -> None:
    """Raise UserError unless the hosts can find the workdir under the same name."""
    if files.is_local(workdir) and not os.path.isabs(workdir):
        raise UserError(
            f"--workdir={os.fspath(workdir)} is a folder of this machine; pods need one that every "
            "host reaches under the same name: gs://..., or the absolute path of a shared folder"
        )


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


def cannot_be_cut(config: RunConfig, found: Slice, count: int) -> str | None:
    """Why a run cannot be spread over the chips at all; None when it can."""
    try:
        sizes = meshes.mesh_sizes(config.mesh, found.chips * count, count)
        meshes.check_batch(config, meshes.abstract_mesh(sizes))
    except UserError as error:
        return str(error)
    return None


def estimated(config: RunConfig, found: Slice, count: int) -> str | None:
    """`problem` by `memory.estimate_bytes`, which knows no compiler: over the runs recorded in
    docs/check.md 0.9 to 1.03 times the compiler's bytes for dense models, 0.4 to 1.5 times for
    mixtures of experts.
    """
    if why := cannot_be_cut(config, found, count):
        return why
    how = "estimated: the TPU compiler, the extra `tpu`, is not installed here"
    try:
        needs = memory.estimate_bytes(config, found.chips * count, platform="tpu").total
    except UserError as error:
        return str(error)
    return problem(needs, found.chip.hbm_bytes, target_name(found, count), how)
