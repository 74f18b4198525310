"""Runs as tasks of Slurm: `backend.py` submits them and looks on, `task.py` runs in them,
`queue.py` reads what Slurm says of them, `options.py` is what is asked of it.
"""

from scaling.executors.slurm.backend import SlurmBackend, run_slurm
from scaling.executors.slurm.options import SlurmOptions

__all__ = ["SlurmBackend", "SlurmOptions", "run_slurm"]
