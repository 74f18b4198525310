"""TPU pods as places for jobs: on GKE through xpk, and plain TPU VMs through gcloud.

Each host of a job runs the same command, `launch.py work --job=FILE`, with the job's file on the
workdir; how the job ended is in a file beside it. `xpk.py` and `gcloud.py` make the commands and
are the two backends, `watching.py` is what they share; `desk.py` keeps the files. `launch.py sweep`
calls them.
"""

from scaling.executors.pods.gcloud import GcloudBackend, GcloudOptions
from scaling.executors.pods.xpk import XpkBackend, XpkOptions

__all__ = ["GcloudBackend", "GcloudOptions", "XpkBackend", "XpkOptions"]
