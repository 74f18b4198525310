"""Whether another version of the code trains the same numbers: bit for bit, under the same names.

    python -m benchmarks.same_numbers --before=CHECKOUT [--after=CHECKOUT] [--keep=FOLDER]
        [--only=dense,moe] [--speed] [--debug]

Trains small configs with the command line of each checkout (default of --after: this one) and holds
every line of metrics (but wall-clock fields), every hash of the state at every step, and the names
of the run directories against each other. Then the checkout after prepares a corpus anew, goes on
with a run that the one before was stopped in, and reads the directories that the one before wrote:
status, table and fit. Prints a line each; exit code 1 if anything differs. Numbers of two machines
or two versions of jax differ in their last bits: run both here. With --keep, what the commit before
trained is trained once for many comparisons.

--speed measures instead (`same_speed.py`), and prints ratios after/before.
"""

import argparse
import csv
import functools
import json
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

ROOT = pathlib.Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.checkouts import TEXT, Place, commit_of, pair, runs_of, state_of  # noqa: E402
from benchmarks.same_speed import speed  # noqa: E402

DENSE, MOE, TINY = (f"configs/{name}.py:debug" for name in ("dense", "moe", "tiny"))
DENSE_32 = (DENSE, TEXT, "model.dtype=float32", "model.remat=none")
# Name -> config, and what is set of it. "window" trains on the default corpus and its parts.
CONFIGS: dict[str, tuple[str, ...]] = {
    "dense": DENSE_32,
    "moe": (MOE, TEXT),
    "expert_choice": (MOE, TEXT, "model.moe.router=expert_choice", "objective.load_balance=0"),
    "window": (TINY, "model.window=8"),
    "untied_softcap": (
        *(TINY, TEXT, "model.tie_embeddings=false", "model.logit_softcap=20"),
        *("objective.z_loss=0.001", "model.mlp=plain", "model.kv_heads=1"),
    ),
    "microbatches": (*DENSE_32, "train.microbatches=4", "seed=7"),
    "bfloat16": (DENSE, TEXT),
    "adafactor": (*DENSE_32, "optim.name=adafactor"),
    "lion_ema_wsd": (
        *(TINY, TEXT, "optim.name=lion", "optim.peak_lr=0.001", "optim.ema_decay=0.9"),
        "optim.schedule=wsd",
    ),
    "bpe": (TINY, TEXT, "data.tokenizer=bpe", "data.bpe_vocab=300", "data.unique_tokens=4096"),
    "steps_per_call": (*DENSE_32, "train.steps_per_call=4", "seed=5"),
}
RENAMED = {"windows": "rows"}  # fields of metrics that had another name before
ANEW = "bpe"  # the config whose corpus is prepared once more


# ---- what two runs have written


def entries(path: pathlib.Path) -> list[dict[str, str]]:
    """The lines of a file of JSON lines: name -> value as JSON, but for wall-clock fields; each
    tensor's hash under the tensor's name.
    """
    found = []
    for line in path.read_text().splitlines() if path.exists() else ():
        values = json.loads(line)
        values |= values.pop("hashes", {})
        kept = {
            RENAMED.get(name, name): value
            for name, value in values.items()
            if not name.startswith("time/")
        }
        found.append({name: json.dumps(value) for name, value in kept.items()})
    return found


def difference(before: pathlib.Path, after: pathlib.Path) -> str:
    """The first difference of two run directories, in a line; "" if there is none."""
    if before.name != after.name:
        return f"name: {before.name} | {after.name}"
    for file in ("metrics.jsonl", "fingerprints.jsonl"):
        ours, theirs = entries(before / file), entries(after / file)
        if not ours:
            return f"{file}: nothing to compare"
        for one, other in zip(ours, theirs, strict=False):
            step = f"{file}, step {one['step']} {one.get('split', '')}".replace('"', "").strip()
            for name in [*one, *(name for name in other if name not in one)]:
                if one.get(name) != other.get(name):
                    return f"{step}: {name}: {one.get(name)} | {other.get(name)}"
        if len(ours) != len(theirs):
            return f"{file}: {len(ours)} lines | {len(theirs)}"
    return ""


def compared(before: pathlib.Path, after: pathlib.Path) -> str:
    """`difference` of the run of each of two workdirs, or what was compared."""
    (ours,), (theirs,) = runs_of(before), runs_of(after)
    if found := difference(ours, theirs):
        return f"DIFFERENT: {found}"
    files = ("metrics.jsonl", "fingerprints.jsonl")
    lines, hashes = (len(entries(ours / file)) for file in files)
    return f"same: {lines} lines of metrics, hashes of {hashes} steps, {ours.name}"


# ---- the comparisons, each a line


def once(place: Place, flags: Sequence[str], workdir: str) -> None:
    """Train, unless that was done and kept."""
    if state_of(place.folder / workdir) != "done":
        place.run(*flags)


def trained(name: str, before: Place, after: Place, steps: int) -> str:
    """A config by both."""
    workdir = f"{name}-{steps}"
    for place in (before, after):
        flags = place.train_flags(CONFIGS[name], workdir, steps=steps, fingerprint_every=1)
        once(place, flags, workdir)
    return compared(before.folder / workdir, after.folder / workdir)


def prepared_anew(before: Place, after: Place, steps: int) -> str:
    """A corpus, and its tokenizer, that the checkout after finds prepared nowhere."""
    for place, workdir, data in ((before, f"{ANEW}-{steps}", "data"), (after, "anew", "anew")):
        flags = place.train_flags(CONFIGS[ANEW], workdir, steps=steps, fingerprint_every=1)
        if state_of(place.folder / workdir) != "done":
            place.run(*flags, data=data)
    return compared(before.folder / f"{ANEW}-{steps}", after.folder / "anew")


def stopped(place: Place, flags: Sequence[str], workdir: str) -> bool:
    """Whether a run that is told to stop at its first line of metrics has been: it may be done."""
    if state_of(place.folder / workdir) is None:
        process, asked = place.start(*flags), False
        while process.poll() is None:
            files = (place.folder / workdir).glob("runs/*/metrics.jsonl")
            if not asked and any(file.stat().st_size for file in files):
                process.terminate()
                asked = True
            time.sleep(0.005)
        process.communicate()
    return state_of(place.folder / workdir) == "stopped"


def gone_on(before: Place, after: Place) -> str:
    """A run that is stopped before and goes on after, against one that was never stopped."""
    config, rhythm = CONFIGS["dense"], {"log_every": 5, "fingerprint_every": 5}
    for steps in (100, 400, 1600, 6400):
        part, whole = f"stopped-{steps}", f"whole-{steps}"
        if stopped(before, before.train_flags(config, part, steps=steps, **rhythm), part):
            break
    else:
        return f"DIFFERENT: of {steps} steps, the run ended before it was stopped"
    once(before, before.train_flags(config, whole, steps=steps, **rhythm), whole)
    shutil.copytree(before.folder / part, after.folder / part)
    (run,) = runs_of(after.folder / part)
    at = json.loads((run / "status.json").read_text())["step"]
    after.run("train", f"--run={part}/runs/{run.name}")
    found = compared(before.folder / whole, after.folder / part)
    return f"{found}, stopped at step {at}"


def told(before: Place, after: Place, steps: int, what: str) -> str:
    """What each says of all the runs that were trained before: "status", "table" or "fit"."""
    places = (before, after)
    if what == "status":
        for place in places:
            shutil.rmtree(place.folder / "all", ignore_errors=True)
            for name in CONFIGS:
                if (trained := before.folder / f"{name}-{steps}").exists():
                    shutil.copytree(trained, place.folder / "all", dirs_exist_ok=True)
        return same_text(*(place.run("status", "--workdir=all") for place in places))
    if what == "table":
        for place in places:
            place.run("report", "--workdir=all")
        return same_table(*(place.folder / "all/report/all/table.csv" for place in places))
    # Unlike models lie on no law, but the numbers are those of one table.
    fit = ("fit", "--workdir=all", "--fixed=alpha=0.3", "--bootstrap=50", "--out=fit")
    return same_text(*(place.run(*fit) for place in places))


def same_text(before: str, after: str) -> str:
    """Every line of the first, in the second and in its order; a line more is no difference."""
    rest = iter(after.splitlines())
    for line in before.splitlines():
        if line not in rest:
            return f"DIFFERENT: not said, or not in its place: {line}"
    count, more = len(before.splitlines()), len(after.splitlines())
    return f"same: {count} lines" + (f"; new: {more - count}" if more > count else "")


def same_table(before: pathlib.Path, after: pathlib.Path) -> str:
    """Every column of the first, in the second; a column more is no difference."""
    ours, theirs = (list(csv.DictReader(path.read_text().splitlines())) for path in (before, after))
    if not ours or len(ours) != len(theirs):
        return f"DIFFERENT: {len(ours)} rows | {len(theirs)}"
    for a, b in zip(ours, theirs, strict=True):
        for name in a:
            if a[name] != b.get(name):
                return f"DIFFERENT: {a['name']}, {name}: {a[name]} | {b.get(name)}"
    more = ", ".join(name for name in theirs[0] if name not in ours[0])
    return f"same: {len(ours)} rows, {len(ours[0])} columns" + (f"; new: {more}" if more else "")


def compare(before: Place, after: Place, names: Sequence[str], steps: int) -> bool:
    """Prints a line each; whether all are the same."""
    checks: dict[str, Callable[[], str]] = {
        name: functools.partial(trained, name, before, after, steps) for name in names
    }
    checks["corpus anew"] = functools.partial(prepared_anew, before, after, steps)
    checks["goes on"] = functools.partial(gone_on, before, after)
    for what in ("status", "table", "fit"):
        checks[what] = functools.partial(told, before, after, steps, what)
    same = True
    for name, check in checks.items():
        try:
            found = check()
        except RuntimeError as error:
            found = f"DIFFERENT: {error}"
        print(f"{name:16s} {found}", flush=True)
        same &= found.startswith("same")
    print("all the same" if same else "NOT THE SAME")
    return same


def kept(folder: pathlib.Path, before: pathlib.Path) -> None:
    """Make a folder ready in which runs of the checkout before may lie. Exits for another's."""
    commit, note = commit_of(before), folder / "before.txt"
    if note.exists() and (commit is None or note.read_text() != commit):
        sys.exit(f"--keep={folder} has runs of {note.read_text()}, not of {before}; name another")
    if commit is None:
        shutil.rmtree(folder / "before", ignore_errors=True)
    for name in ("after", "anew"):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    if commit is not None:
        note.write_text(commit)


def main() -> int:
    """Flags as in the module's docstring; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=pathlib.Path, required=True, help="a checkout")
    parser.add_argument("--after", type=pathlib.Path, default=ROOT, help="another; default: this")
    parser.add_argument("--only", help="configs to train, with commas between; default: all")
    parser.add_argument("--keep", type=pathlib.Path, help="a folder for what is written")
    parser.add_argument("--speed", action="store_true", help="measure times instead")
    parser.add_argument("--rounds", type=int, default=5, help="of --speed")
    parser.add_argument("--debug", action="store_true", help="small, to see that it runs")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else list(CONFIGS)[: 2 if given.debug else None]
    if unknown := [name for name in names if name not in CONFIGS]:
        parser.error(f"--only={unknown[0]} is none of {', '.join(CONFIGS)}")
    for flag, checkout in (("before", given.before), ("after", given.after)):
        if not (checkout / "launch.py").is_file():
            parser.error(f"--{flag}={checkout} is no checkout: it has no launch.py")
    with tempfile.TemporaryDirectory() as scratch:
        keep = None if given.speed else given.keep  # times are of now
        folder = (keep or pathlib.Path(scratch)).absolute()
        kept(folder, given.before)
        before, after = pair(given.before, given.after, folder)
        if given.speed:
            speed(before, after, given.rounds, given.debug)
            return 0
        return 0 if compare(before, after, names, steps=6 if given.debug else 20) else 1


if __name__ == "__main__":
    sys.exit(main())
