"""Tables of training runs that others published, each with the columns that a law reads.

Those of tests/data/published are at hand. Of the others only the source is: repository, commit and
file; they are read from clones, whichever folders below `clones` hold the commit. Used by
`real_coverage.py` and `error_prior.py`.
"""

import functools
import io
import json
import pathlib
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from scaling.laws.table import read_table

HERE = pathlib.Path(__file__).parent.parent / "tests" / "data" / "published"


@dataclass(frozen=True)
class Source:
    """Where runs were published."""

    repository: str
    commit: str
    paper: str


@dataclass(frozen=True)
class Published:
    """One table: a row a run, with params, tokens, flops and loss."""

    name: str
    family: (
        str  # tables of one family share runs or a laboratory: they stand on one side of a split
    )
    rows: pd.DataFrame
    law: str = "chinchilla"
    fixed: Mapping[str, float] = field(default_factory=dict)


OPEN_ATHENA = Source(
    "Open-Athena/scaling-law-analysis", "3e0656e", "isoFLOP runs of Marin (Comma, DCLM, Nemotron)"
)
GADRE = Source("mlfoundations/scaling", "a003c49", "Gadre et al. 2024 (arXiv 2403.08540)")
BRANDFONBRENER = Source(
    "KempnerInstitute/loss-to-loss-notebooks",
    "457ce81",
    "Brandfonbrener et al. 2024 (arXiv 2411.12925)",
)
STEP_LAW = Source("step-law/steplaw", "32a8f4c", "Li et al. 2025 (arXiv 2503.04715)")
# Muennighoff et al. 2023: the first stage of their fit, given.
STAGE_1 = {
    "alpha": 0.3526596, "beta": 0.3526596, "A": float(np.exp(6.255414)),
    "B": float(np.exp(7.3049974)), "E": float(np.exp(0.6254804)),
}  # fmt: skip


def at_hand() -> list[Published]:
    """The tables of tests/data/published; their sources are in its README."""
    runs = read_table(
        HERE / "chinchilla_epoch.csv",
        columns="params=Model Size,flops=Training FLOP",
        derive="tokens=flops/(6*params)",
    ).rows
    usual = runs[runs.loss <= np.sort(runs.loss)[239]]
    out = [Published("chinchilla, 240 rows", "hoffmann", usual)]
    for name in ("hot", "cool_end", "hot_chinchilla_like"):
        rows = read_table(
            HERE / f"gemstones_{name}.jsonl",
            columns="params=params_active_precise,loss=final_loss",
            derive="flops=6*params*tokens",
        ).rows
        out.append(Published(f"gemstones, {name}", "gemstones", rows))
    for name in ("data_constrained", "data_constrained_fit182"):
        rows = read_table(
            HERE / f"{name}.csv", columns="loss=val_loss", derive="flops=6*params*tokens"
        ).rows
        out.append(Published(name, "muennighoff", rows, "data_constrained", STAGE_1))
    porian = read_table(HERE / "isoflop_openwebtext2.csv", columns="params=n,tokens=t").rows
    for setting in (
        ("base", "long", "kaplan", "standard"),
        ("base", "short", "chinchilla", "standard"),
        ("tuned", "short", "const", "standard"),
    ):
        named = zip(("hparams", "warmup", "decay", "param_count"), setting, strict=True)
        mask = np.logical_and.reduce([porian[k] == v for k, v in named])
        out.append(Published(f"openwebtext2, {' '.join(setting[:3])}", "porian", porian[mask]))
    extracts = read_table(HERE / "isoflop_extracts.csv", derive="flops=budget").rows
    families = {"ml_scalefit": "hoffmann", "llama_3": "llama", "marin_202603": "marin"}
    for name, rows in extracts.groupby("experiment"):
        origin, what, *_ = str(name).split("__")
        out.append(Published(f"{origin}, {what}", families.get(origin, origin), rows))
    return out


def public(clones: pathlib.Path) -> list[Published]:
    """The tables that are read from clones of their repositories, which must be below `clones`."""
    read = functools.partial(_read, clones)
    out = []
    marin = pd.read_csv(io.BytesIO(read(OPEN_ATHENA, "data/isoflops/transform/isoflops.csv")))
    for data in ("dclm", "nemotron"):
        rows = marin[marin.experiment == f"marin_202603__{data}__llama_2"]
        rows = rows.assign(flops=rows.budget)
        out.append(Published(f"marin_202603, {data}", "marin", rows))
    out += _gadre(read)
    sweep = pd.read_csv(io.BytesIO(read(BRANDFONBRENER, "data/sweep.csv")))
    more = pd.read_csv(io.BytesIO(read(BRANDFONBRENER, "data/extrapolation.csv")))
    both = pd.concat([sweep, more]).rename(
        columns={"eval/c4_val/CrossEntropyLoss": "loss", "flops": "flops_per_token"}
    )
    for data, rows in both.groupby("data"):
        rows = rows.assign(flops=rows.iso_flop)[["params", "tokens", "flops", "loss"]]
        out.append(Published(f"loss to loss, {data}", "brandfonbrener", rows.dropna()))
    lr = pd.read_csv(io.BytesIO(read(STEP_LAW, "data/dense_lr_bs_loss.csv")))
    best = lr.groupby(["N", "D"], as_index=False)["smooth loss"].min()
    best.columns = ["params", "tokens", "loss"]
    best["flops"] = 6.0 * best.params * best.tokens
    out.append(Published("step law, best of each", "step law", best))
    return out


def _gadre(read: Callable[[Source, str], bytes]) -> list[Published]:
    """Loss on C4 after training on each of three data sets."""
    names = read(GADRE, "exp_data/models/").decode().splitlines()
    rows = []
    for name in (n for n in names if n.endswith(".json")):
        model = json.loads(read(GADRE, f"exp_data/models/{name}"))
        hyper = model["hyperparameters"]
        losses = [r["loss"] for r in model["results"] if "c4_val" in str(r.get("val_data"))]
        if losses and hyper.get("tokens"):
            rows.append((model["dataset_name"], hyper["params"], hyper["tokens"], losses[-1]))
    table = pd.DataFrame(rows, columns=["data", "params", "tokens", "loss"])
    table["flops"] = 6.0 * table.params * table.tokens
    return [Published(f"overtraining, {d}", "gadre", part) for d, part in table.groupby("data")]


@functools.cache
def _clone_of(clones: pathlib.Path, commit: str) -> pathlib.Path:
    """The repository that has a commit. Raises FileNotFoundError."""
    for path in sorted(clones.glob("*")) + sorted(clones.glob("*/*")):
        known = subprocess.run(
            ["git", "-C", str(path), "cat-file", "-e", f"{commit}^{{commit}}"],
            capture_output=True, check=False,
        )  # fmt: skip
        if known.returncode == 0:
            return path
    raise FileNotFoundError(f"no clone below {clones} has commit {commit}")


def _read(clones: pathlib.Path, source: Source, path: str) -> bytes:
    """A file of a published commit, or (a path that ends in /) the names in a folder."""
    place = _clone_of(clones, source.commit)
    shown = f"{source.commit}:{path.rstrip('/')}"
    verb = ["ls-tree", "--name-only", shown] if path.endswith("/") else ["show", shown]
    return subprocess.run(["git", "-C", str(place), *verb], capture_output=True, check=True).stdout
