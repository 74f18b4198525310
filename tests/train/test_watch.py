"""Statistics of a run's insides: they are what they say, and the run does not feel them."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.config import fingerprint, override, programs
from scaling.costs import counts
from scaling.devices import meshes, sharding
from scaling.executors import packing
from scaling.executors.jobs import Job
from scaling.models import attention
from scaling.models.attention import scaled
from scaling.models.logits import rms_of_logits
from scaling.records import RunDirectory
from scaling.records.comparison import compare
from scaling.report import report
from scaling.train import checkpoint
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.rhythm import next_edge, watches
from scaling.train.step import compile_steps

DEVICES = jax.devices()[:1]
DEEP = {"model.depth": 2, "train.steps": 8, "evals.every": 4, "train.checkpoint_every": 3}
WATCHED = DEEP | {"train.watch_every": 3}


def watched_lines(run: RunDirectory) -> dict[int, dict[str, float]]:
    """Step -> name -> RMS."""
    return {
        line["step"]: {n: v for n, v in line.items() if "/" in n}
        for line in run.metrics()
        if line["split"] == "watch"
    }


def others(run: RunDirectory) -> list[dict[str, object]]:
    """All other lines, without the clock's numbers."""
    lines = [line for line in run.metrics() if line["split"] != "watch"]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def last_state(run: RunDirectory, config) -> state_lib.TrainState:
    mesh = meshes.make_mesh(config.mesh, DEVICES)
    plan = state_lib.layout(state_lib.parts(config), config, mesh)
    newest = checkpoint.steps(run.path / "checkpoints")[-1]
    return checkpoint.load(run.path / "checkpoints" / str(newest), plan.abstract, config)


@pytest.fixture(scope="module")
def watched(tiny, tmp_path_factory):
    """A run of two blocks that is watched, and its config."""
    workdir, config = tmp_path_factory.mktemp("watched"), tiny(WATCHED)
    train(config, workdir, devices=DEVICES, quiet=True)
    return RunDirectory.open(config, workdir), config


@pytest.mark.slow
def test_a_watched_run_is_the_same_run_to_the_bit(watched, tiny, tmp_path):
    run, config = watched
    plain = tiny(DEEP)
    assert fingerprint(plain) == fingerprint(config)
    train(plain, tmp_path, devices=DEVICES, quiet=True)
    alone = RunDirectory.open(plain, tmp_path)
    assert others(run) == others(alone)
    assert compare(run, alone).same_result
    ours, theirs = last_state(run, config), last_state(alone, plain)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.slow
def test_every_module_has_its_kinds_at_the_steps_asked_for(watched):
    run, _ = watched
    lines = watched_lines(run)
    assert sorted(lines) == [3, 6]
    parts = ("attention_norm", "attention", "mlp_norm", "mlp")
    inside = {f"blocks.{i}.{part}" for i in range(2) for part in parts}
    for values in lines.values():
        by_kind: dict[str, set[str]] = {}
        for name in values:
            kind, module = name.split("/")
            by_kind.setdefault(kind, set()).add(module)
        assert by_kind["activation"] == inside | {"embedding", "final_norm", "blocks.0", "blocks.1"}
        assert by_kind["logits"] == {"blocks.0.attention", "blocks.1.attention"}
        assert by_kind["gradient"] == by_kind["update"] == inside | {"embedding", "final_norm"}
        assert all(math.isfinite(value) and value > 0 for value in values.values())


def test_the_modules_add_up_to_the_norms_of_the_step(watched):
    """Squares times sizes, summed over the modules, are the squared norm that the step reports."""
    run, config = watched
    shapes = jax.eval_shape(
        lambda: sharding.unbox(state_lib.create(state_lib.parts(config), config, np.uint32(0)))
    ).params
    sizes: dict[str, int] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes):
        first, *rest = (entry.key for entry in path)
        names = [first] if first != "blocks" else [f"blocks.{i}.{rest[0]}" for i in range(2)]
        for name in names:
            sizes[name] = sizes.get(name, 0) + math.prod(leaf.shape) // len(names)
    train_lines = {line["step"]: line for line in others(run) if line["split"] == "train"}
    for step, values in watched_lines(run).items():
        for kind, norm in (("gradient", "grad_norm"), ("update", "update_norm")):
            squares = sum(sizes[m] * values[f"{kind}/{m}"] ** 2 for m in sizes)
            # The update is read off parameters that are rounded to float32.
            assert math.sqrt(squares) == pytest.approx(train_lines[step][norm], rel=1e-4)


@pytest.mark.parametrize(("window", "causal"), [(None, True), (5, True), (None, False)])
@pytest.mark.parametrize("documents", [False, True])
@pytest.mark.parametrize("length", [16, 300])  # one block of queries, and two with some left over
def test_logits_are_those_of_every_visible_pair(window, causal, documents, length):
    rng = np.random.default_rng(0)
    q = rng.normal(size=(2, 4, length, 8)).astype(np.float32)
    k = rng.normal(size=(2, 2, length, 8)).astype(np.float32)
    segments = np.cumsum(rng.random((2, length)) < 0.1, axis=1) if documents else None
    squares, count = 0.0, 0
    for b in range(2):
        for h in range(4):
            scores = q[b, h] @ k[b, h // 2].T / math.sqrt(8)
            back = np.subtract.outer(np.arange(length), np.arange(length))
            visible = (back >= 0) | (not causal)
            if window is not None:
                visible &= back < window
            if segments is not None:
                visible &= segments[b][:, None] == segments[b][None, :]
            squares, count = squares + (scores[visible] ** 2).sum(), count + visible.sum()
    given = None if segments is None else jnp.asarray(segments)
    found = rms_of_logits(scaled(jnp.asarray(q)), jnp.asarray(k), given, window, causal)
    assert float(found) == pytest.approx(math.sqrt(squares / count), rel=1e-5)


FORMS = {
    "unrolled": ({"model.scan_layers": False}, 1),
    "remat, microbatches": ({"model.remat": "full", "train.microbatches": 2}, 1),
    "fsdp and tensor": ({"mesh.fsdp": 2, "mesh.tensor": 2}, 4),
    "stages": ({"mesh.stage": 2}, 2),
    "sequence": ({"mesh.seq": 2}, 2),
}
SOME = ("remat, microbatches", "fsdp and tensor")


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(f, marks=pytest.mark.slow if f in SOME else pytest.mark.exhaustive)
        for f in FORMS
    ],
)
def test_however_the_model_is_run_the_statistics_are_the_same(form, watched, tiny, tmp_path):
    changes, devices = FORMS[form]
    config = tiny(WATCHED | changes)
    train(config, tmp_path, devices=jax.devices()[:devices], quiet=True)
    ours, theirs = watched_lines(RunDirectory.open(config, tmp_path)), watched_lines(watched[0])
    assert ours.keys() == theirs.keys()
    for step, values in theirs.items():
        assert ours[step] == pytest.approx(values, rel=1e-4)  # sums in another order


@pytest.mark.exhaustive
def test_experts_are_one_module_of_their_block(tiny, tmp_path):
    config = tiny(WATCHED | {"model.moe.experts": 4, "model.moe.per_token": 2, "mesh.expert": 2})
    train(config, tmp_path, devices=jax.devices()[:2], quiet=True)
    lines = watched_lines(RunDirectory.open(config, tmp_path))
    assert sorted(lines) == [3, 6]
    for kind in ("activation", "gradient", "update"):
        assert lines[6][f"{kind}/blocks.1.moe"] > 0


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on_to_the_same_statistics(watched, tiny, tmp_path):
    """By calls of several steps, which the watched updates cut, and from a checkpoint."""
    config = tiny(WATCHED | {"train.steps_per_call": 4})
    run = RunDirectory.open(config, tmp_path)
    train(config, tmp_path, devices=DEVICES, quiet=True)
    whole = watched_lines(run), others(run)
    path = run.path / "checkpoints"
    (path / "8").rename(tmp_path / "later")
    run.write_status("stopped", step=6)
    text = (run.path / "metrics.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in text if json.loads(line)["step"] <= 4]
    (run.path / "metrics.jsonl").write_text("".join(kept))
    for left in (path / str(step) for step in checkpoint.steps(path) if step > 3):
        left.rename(tmp_path / f"later {left.name}")
    train(config, tmp_path, devices=DEVICES, quiet=True)
    assert (watched_lines(run), others(run)) == whole
    assert watched_lines(run) == watched_lines(watched[0])


def test_calls_begin_with_the_updates_that_are_watched(tiny):
    for every in (1, 2, 5, 7):
        config = tiny({"train.watch_every": every, "train.steps": 40, "train.steps_per_call": 3})
        begins, step = {0}, 0
        while step < 40:
            step = next_edge(step, config)
            begins.add(step)
        assert {n for n in range(1, 41) if watches(n, config)} <= {n + 1 for n in begins}
        assert step == 40


def lowered(config) -> str:
    """The program of the step, as jax hands it to the compiler."""
    mesh = meshes.make_mesh(config.mesh, DEVICES)
    pieces = state_lib.parts(config)
    plan = state_lib.layout(pieces, config, mesh)
    shapes = {
        name: jax.ShapeDtypeStruct((1, *s.shape), s.dtype)
        for name, s in counts.batch_shapes(config).items()
    }
    with sharding.context(mesh):
        hparams = jax.tree.map(jnp.asarray, programs.hparams(config))
        steps = compile_steps(pieces, config, plan)
        return steps.lower(plan.abstract, shapes, jnp.int32(1), hparams).as_text()


def test_the_step_is_the_same_program_watched_or_not_and_without_the_hook(tiny, monkeypatch):
    off = lowered(tiny(DEEP))
    assert lowered(tiny(WATCHED)) == off
    monkeypatch.setattr(attention, "tell", lambda *_: None)
    assert lowered(tiny(DEEP)) == off
    assert lowered(tiny(DEEP | {"model.width": 32})) != off


def test_watched_runs_are_never_packed_and_the_dry_run_says_so(tiny):
    plain = [Job((tiny({"seed": seed}),)) for seed in range(2)]
    watch = [Job((override(job.configs[0], {"train.watch_every": 5}),)) for job in plain]
    assert len(packing.pack(plain, 2, DEVICES)) == 1
    jobs = packing.pack(watch, 2, DEVICES)
    assert len(jobs) == 2
    assert packing.text(jobs) == "2 run(s) with train.watch_every are trained alone, never packed"


def test_tensorboard_has_them(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run, _ = watched
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    shown = {e.step: e.value for e in events.Scalars("watch/activation/blocks.1.mlp")}
    lines = watched_lines(run)
    assert shown == {s: pytest.approx(v["activation/blocks.1.mlp"]) for s, v in lines.items()}


def test_the_report_has_a_page_of_them(watched, tmp_path):
    run, _ = watched
    index = report([run], out=tmp_path)
    assert 'href="watch.html"' in index.read_text()
    page = (tmp_path / "watch.html").read_text()
    for title in ("activations", "attention logits", "gradients", "updates"):
        assert f"RMS of {title}" in page
    assert run.path.name in page
    numbers = (tmp_path / "figures" / f"watch-{run.path.name}-logits.csv").read_text()
    assert numbers.startswith("step,module,rms\n3,blocks.0.attention,")
