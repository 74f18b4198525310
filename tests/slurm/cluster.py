"""A real Slurm on this machine: one controller and two virtual nodes, on loopback only.

    python tests/slurm/cluster.py start    prints the line that makes a shell use it
    python tests/slurm/cluster.py status   nodes and jobs
    python tests/slurm/cluster.py stop     ends what `start` began, and nothing else

Configuration, spool and logs are in one folder (`--folder`, by default below the temporary folder).
Needs root, because slurmd does, and Debian's packages slurm-wlm and munge, which `start` installs
when they are missing. Exit code 77: no Slurm can be had on this machine, with the reason.
Called by `make test-slurm`; `tests/slurm/conftest.py` uses it to take nodes down.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from debian import IMPOSSIBLE, Impossible, install

FOLDER = pathlib.Path(tempfile.gettempdir()) / "scaling-slurm"
NODES = ("n0", "n1")
PORTS = {"slurmctld": 16817, "n0": 16818, "n1": 16819}
PACKAGES = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "munged": "munge"}
HOSTS = pathlib.Path("/etc/hosts")
MUNGE = pathlib.Path("/run/munge")

CONFIG = """\
ClusterName=scaling
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={munge}/munge.socket.2,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2,batch_sched_delay=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
# A job that lost its node, or made room for another, goes back into the queue.
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Seconds: from the signal to the kill; until a node that is silent counts as lost.
KillWait=10
SlurmdTimeout=8
MinJobAge=300
NodeName={nodes} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=2 RealMemory=4000
PartitionName=main Nodes=ALL Default=YES MaxTime=1:00:00 PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=1:00:00 PriorityTier=2
"""


def environment(folder: pathlib.Path = FOLDER) -> dict[str, str]:
    """What a process needs to use this cluster: `os.environ | environment()`."""
    return {"SLURM_CONF": str(folder / "slurm.conf")}


def is_up(folder: pathlib.Path = FOLDER) -> bool:
    """Whether the controller answers and both nodes are there."""
    if not (folder / "slurm.conf").exists() or shutil.which("sinfo") is None:
        return False
    done = _slurm(folder, "sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T")
    states = dict(line.split() for line in done.stdout.splitlines())
    usable = ("idle", "mixed", "allocated", "completing")
    return done.returncode == 0 and [states.get(node) in usable for node in NODES] == [True, True]


def start(folder: pathlib.Path = FOLDER) -> None:
    """Begin what is not running yet. Raises Impossible."""
    if os.geteuid() != 0:
        raise Impossible("a real Slurm needs root, and this is not")
    install(PACKAGES)
    _name_the_nodes()
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "slurm.conf").write_text(
        CONFIG.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            munge=MUNGE,
            controller_port=PORTS["slurmctld"],
            nodes=",".join(NODES),
            ports=",".join(str(PORTS[node]) for node in NODES),
        )
    )
    _start_munge(folder)
    if _pid(folder / "slurmctld.pid") is None:
        _run(["slurmctld", "-c"], folder)
    for node in NODES:
        start_node(node, folder)
    until = time.monotonic() + 30
    while not is_up(folder):
        if time.monotonic() > until:
            logs = "\n".join(
                f"{log}:\n{log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log"))
            )
            raise SystemExit(f"Slurm does not come up; its logs:\n{logs}")
        time.sleep(0.2)


def start_node(node: str, folder: pathlib.Path = FOLDER) -> None:
    """Begin a node's daemon unless it runs."""
    if _pid(folder / f"slurmd-{node}.pid") is None:
        _run(["slurmd", "-N", node], folder)


def lose_node(node: str, folder: pathlib.Path = FOLDER) -> None:
    """What a power cut does: the node's daemon and all that it started are gone at once."""
    pid = _pid(folder / f"slurmd-{node}.pid")
    for victim in [*([pid] if pid else []), *_started_on(node, folder)]:
        _kill(victim, signal.SIGKILL)
    (folder / f"slurmd-{node}.pid").unlink(missing_ok=True)


def restore_node(node: str, folder: pathlib.Path = FOLDER) -> None:
    """Into service again, whatever has happened to it."""
    start_node(node, folder)
    _slurm(folder, "scontrol", "update", f"NodeName={node}", "State=RESUME")
    until = time.monotonic() + 30
    while not is_up(folder) and time.monotonic() < until:
        time.sleep(0.2)


def stop(folder: pathlib.Path = FOLDER) -> None:
    """Cancel the jobs, end the daemons that `start` began, remove the folder."""
    if _pid(folder / "slurmctld.pid") is not None:
        _slurm(folder, "scancel", "--user=root")
        until = time.monotonic() + 20
        while _slurm(folder, "squeue", "--noheader").stdout and time.monotonic() < until:
            time.sleep(0.2)
    names = ["slurmctld.pid", *(f"slurmd-{node}.pid" for node in NODES), "munged.pid"]
    for path in (folder / name for name in names):
        pid = _pid(path)
        if pid is not None:
            _kill(pid, signal.SIGTERM)
            until = time.monotonic() + 10
            while _pid(path) is not None and time.monotonic() < until:
                time.sleep(0.1)
            if _pid(path) is not None:
                _kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


# ---- pieces


def _name_the_nodes() -> None:
    """The processes of a run find the first one by its node's name: it must lead to loopback."""
    line = f"127.0.0.1 {' '.join(NODES)}"
    if line not in HOSTS.read_text().splitlines():
        with HOSTS.open("a") as hosts:
            hosts.write(f"{line}\n")


def _start_munge(folder: pathlib.Path) -> None:
    """Unless this machine has one already, whoever began it."""
    check = subprocess.run(["munge", "--no-input"], capture_output=True, check=False)
    if check.returncode == 0:
        return
    for path in (MUNGE, folder / "munge"):
        path.mkdir(parents=True, exist_ok=True)
        shutil.chown(path, "munge", "munge")
    files = [f"--pid-file={folder}/munge/munged.pid", f"--log-file={folder}/munge/munged.log"]
    _run(["runuser", "-u", "munge", "--", shutil.which("munged") or "munged", *files], folder)
    (folder / "munged.pid").symlink_to(folder / "munge" / "munged.pid")


def _run(command: list[str], folder: pathlib.Path) -> None:
    env = os.environ | environment(folder)
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")


def _slurm(folder: pathlib.Path, *command: str) -> subprocess.CompletedProcess:
    env = os.environ | environment(folder)
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def _pid(path: pathlib.Path) -> int | None:
    """The process of a pid file, if it lives."""
    try:
        pid = int(path.read_text())
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, ValueError):
        return None
    return None if state == "Z" else pid


def _started_on(node: str, folder: pathlib.Path) -> list[int]:
    """The processes of a node's jobs, which have it in their environment, and their step daemons,
    the first to die: they would say that the step has ended.
    """
    signs = {f"SLURMD_NODENAME={node}".encode(), f"SLURM_CONF={folder}/slurm.conf".encode()}
    daemons, jobs = set(), []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if signs <= set((entry / "environ").read_bytes().split(b"\0")):
                jobs.append(int(entry.name))
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                if pathlib.Path(f"/proc/{parent}/comm").read_text().strip() == "slurmstepd":
                    daemons.add(int(parent))
    return [*daemons, *jobs]


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    """One command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["start", "stop", "status"])
    parser.add_argument("--folder", type=pathlib.Path, default=FOLDER)
    args = parser.parse_args()
    if args.command == "start":
        try:
            start(args.folder)
        except Impossible as reason:
            print(f"no Slurm here: {reason}", file=sys.stderr)
            return IMPOSSIBLE
        print(f"export SLURM_CONF={args.folder / 'slurm.conf'}")
    elif args.command == "stop":
        stop(args.folder)
    elif is_up(args.folder):
        print(_slurm(args.folder, "sinfo").stdout + _slurm(args.folder, "squeue").stdout)
    else:
        print(f"no Slurm runs from {args.folder}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
