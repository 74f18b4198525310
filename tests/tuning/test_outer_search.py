"""A search that is killed at any moment goes on as if nothing had been; who is behind is left."""

import math

import pytest
from optuna.storages.journal import JournalFileBackend
from written import resolved, size

from scaling.config import RunConfig, fingerprint
from scaling.config.provenance import provenance
from scaling.config.search import Search, among, between, whole
from scaling.config.sweep import Study
from scaling.errors import BusyError, ConfigError, UserError
from scaling.executors.result import Result
from scaling.records import RunDirectory
from scaling.tuning.halving import promoted
from scaling.tuning.search import search

BASE = resolved(train__steps=18)
AXES = {
    "optim.peak_lr": between(1e-4, 1e-1, log=True),
    "model.depth": whole(1, 4),
    "optim.name": among(["adamw", "sgd"]),
}


def a_study(**fields) -> Study:
    values = {"axes": AXES, "trials": 10, "at_once": 4, "reduction": 2} | fields
    return Study(name="found", base=BASE, runs=[{}], search=Search(**values))


def loss_of(config: RunConfig, step: int) -> float:
    """Lowest at a rate of 0.01 and three blocks; one kind of run diverges."""
    if config.optim.name == "sgd" and config.optim.peak_lr > 0.05:
        return math.inf
    off = math.log10(config.optim.peak_lr / 1e-2) ** 2 + 0.1 * abs(config.model.depth - 3)
    return 1 + off + (config.optim.name == "sgd") * 0.3 + 1 / step


class Trainer:
    """In the place of an executor: writes what training would leave, and counts it."""

    def __init__(self, workdir):
        self.workdir, self.trained = workdir, list[tuple[str, int]]()

    def __call__(self, asked) -> list[Result]:
        return [self._one(config, step) for config, step in asked]

    def _one(self, config: RunConfig, step: int) -> Result:
        run = RunDirectory.open(config, self.workdir)
        status = run.status()
        if status.get("step", 0) < step:
            self.trained.append((fingerprint(config), step))
            loss = loss_of(config, step)
            if not run.path.exists():
                run.start(config, provenance() | {"device_kind": "cpu"}, size(config))
            run.append({"step": step, "split": "val", "loss": min(loss, 1e9)})
            state = "done" if step == config.train.steps else "stopped"
            run.write_status(state if math.isfinite(loss) else "diverged", step=step)
        state = run.status()["state"]
        return Result(config, "paused" if state == "stopped" else state)


def run(plan: Study, workdir, trainer=None):
    trainer = trainer or Trainer(workdir)
    return search(plan, workdir, lambda config: config, trainer, lambda text: None), trainer


def as_told(found) -> list[tuple]:
    """Of each trial, all but Optuna's own number."""
    return [(t.number, t.values, t.run, t.losses, t.state) for t in found.trials]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return run(a_study(), tmp_path_factory.mktemp("calm"))


def test_a_search_finds_what_is_best_and_leaves_the_rest_on_the_way(undisturbed):
    found, trainer = undisturbed
    assert [trial.number for trial in found.trials] == list(range(10))
    assert len({trial.run for trial in found.trials}) == 10
    assert len(set(trainer.trained)) == len(trainer.trained)
    steps = {1: 2, 2: 6, 3: 18}
    for trial in found.trials:
        config = found.configs[trial.number]
        expected = [loss_of(config, steps[i + 1]) for i in range(len(trial.losses))]
        assert list(trial.losses) == expected
        assert trial.state == ("done" if len(trial.losses) == 3 else "left")
    ended = [trial for trial in found.trials if trial.state == "done"]
    assert 1 <= len(ended) <= 5
    # Nobody that was left was, where it was left, ahead of one of its generation that went on.
    for rung in (0, 1):
        for first in range(0, 10, 4):
            here = [t for t in found.trials[first : first + 4] if len(t.losses) > rung]
            on = [t.losses[rung] for t in here if len(t.losses) > rung + 1]
            left = [t.losses[rung] for t in here if len(t.losses) == rung + 1]
            assert not on or not left or max(on) <= min(left)
    assert found.best.loss == min(trial.losses[-1] for trial in ended)


class Killed(BaseException):
    """No handler of errors sees it, as none would see a signal."""


def killed_after(count: int, torn: bool):
    """Appends of the journal, the last of which is cut off in the middle, or does not happen."""
    appends, left = JournalFileBackend.append_logs, [count]

    def append(self, logs):
        left[0] -= 1
        if left[0] < 0:
            if torn:
                with open(self._file_path, "ab") as file:
                    file.write(b'{"op_code":4,"worker_')
            raise Killed
        appends(self, logs)

    return append


def goes_on_after_kills(tmp_path, undisturbed, monkeypatch, between_kills: int) -> None:
    """Killed again and again, each time so many writes of the journal later."""
    expected, calm = undisturbed
    trainer, kills = Trainer(tmp_path), 0
    while True:
        with monkeypatch.context() as patch:
            append = killed_after(between_kills + kills % 3, torn=kills % 2 == 0)
            patch.setattr(JournalFileBackend, "append_logs", append)
            try:
                found, _ = run(a_study(), tmp_path, trainer)
                break
            except Killed:
                kills += 1
    assert kills > 3
    assert as_told(found) == as_told(expected)
    assert sorted(trainer.trained) == sorted(calm.trained)


def test_a_killed_search_goes_on_as_if_nothing_had_been(tmp_path, undisturbed, monkeypatch):
    goes_on_after_kills(tmp_path, undisturbed, monkeypatch, between_kills=17)


@pytest.mark.slow
@pytest.mark.parametrize("between_kills", [13, 14, 15, 19, 22, 26])
def test_wherever_it_is_killed(tmp_path, undisturbed, monkeypatch, between_kills):
    goes_on_after_kills(tmp_path, undisturbed, monkeypatch, between_kills)


@pytest.mark.slow
def test_sixty_trials_killed_five_times(tmp_path, tmp_path_factory, monkeypatch):
    plan = a_study(trials=60, at_once=12, reduction=3)
    expected, calm = run(plan, tmp_path_factory.mktemp("calm"))
    trainer, kills = Trainer(tmp_path), 0
    while kills < 5:
        with monkeypatch.context() as patch:
            append = killed_after(100, torn=kills % 2 == 0)
            patch.setattr(JournalFileBackend, "append_logs", append)
            with pytest.raises(Killed):
                run(plan, tmp_path, trainer)
        kills += 1
    found, _ = run(plan, tmp_path, trainer)
    assert as_told(found) == as_told(expected)
    assert found.best.number == expected.best.number
    assert sorted(trainer.trained) == sorted(calm.trained)


def test_told_to_stop_a_search_is_continued_and_may_be_made_longer(tmp_path, undisturbed):
    trainer = Trainer(tmp_path)

    def stops(asked):
        if len(trainer.trained) > 5:
            return [Result(config, "stopped") for config, _ in asked]
        return trainer(asked)

    assert run(a_study(), tmp_path, stops)[0] is None
    found, _ = run(a_study(trials=8), tmp_path, trainer)
    assert as_told(found) == as_told(undisturbed[0])[:8]
    assert len(run(a_study(trials=12), tmp_path, trainer)[0].trials) == 12
    assert len(set(trainer.trained)) == len(trainer.trained)


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    run(a_study(trials=2, at_once=2), tmp_path)
    with pytest.raises(UserError, match="a search with other axes; give another --workdir"):
        run(a_study(trials=2, at_once=2, axes={"model.depth": whole(1, 9)}), tmp_path)
    other = Study("found", resolved(train__steps=36), [{}], search=a_study().search)
    with pytest.raises(UserError, match="other at_once and base"):
        run(other, tmp_path)


def test_two_processes_do_not_search_at_once(tmp_path):
    def nested(asked):
        with pytest.raises(BusyError, match="in use by process"):
            run(a_study(), tmp_path)
        return [Result(config, "stopped") for config, _ in asked]

    assert run(a_study(), tmp_path, nested)[0] is None


def test_values_that_make_no_run_are_drawn_again_and_small_spaces_end(tmp_path):
    """Six values, of which two cannot be: four trials, whatever was asked for."""

    def made(values):
        if values["depth"] > 2:
            raise ConfigError("too deep")
        return {"model.depth": values["depth"], "optim.name": values["name"]}

    axes = {"depth": whole(1, 3), "name": among(["adamw", "sgd"])}
    found, _ = run(a_study(axes=axes, override=made, trials=9), tmp_path)
    drawn = {(t.values["depth"], t.values["name"]) for t in found.trials}
    assert drawn == {(d, n) for d in (1, 2) for n in ("adamw", "sgd")}
    assert {"too deep", "drawn before"} == set(found.in_vain)


def test_a_run_that_failed_says_nothing_and_stops_nobody(tmp_path):
    trainer = Trainer(tmp_path)

    def fails(asked):
        def one(config, step):
            if config.model.depth == 4:
                return Result(config, "failed", "out of memory")
            return trainer([(config, step)])[0]

        return [one(*pair) for pair in asked]

    found, _ = run(a_study(trials=8), tmp_path, fails)
    states = {t.number: (t.state, t.reason) for t in found.trials if t.values["model.depth"] == 4}
    assert set(states.values()) == {("failed", "out of memory")}
    assert found.best is not None


def test_runs_that_were_trained_before_cost_nothing_and_are_not_compared_on_the_way(tmp_path):
    axes = {"model.depth": whole(1, 4)}
    trainer = Trainer(tmp_path)
    before = resolved(train__steps=18, model__depth=2)
    trainer([(before, 18)])
    found, _ = run(a_study(axes=axes, trials=4), tmp_path, trainer)
    (known,) = (trial for trial in found.trials if trial.values["model.depth"] == 2)
    assert (known.state, known.losses, known.loss) == ("done", (), loss_of(before, 18))
    assert trainer.trained.count((fingerprint(before), 18)) == 1
    assert found.best.values["model.depth"] == 3
    assert sum(trial.state == "left" for trial in found.trials) == 2


def test_the_best_is_confirmed_with_other_seeds(tmp_path):
    found, trainer = run(a_study(trials=4, confirm=2), tmp_path)
    assert [config.seed for config in found.confirmed] == [1, 2]
    assert {c.optim.peak_lr for c in found.confirmed} == {found.best.values["optim.peak_lr"]}
    assert {(fingerprint(c), 18) for c in found.confirmed} <= set(trainer.trained)


def test_who_goes_on():
    own = {0: 3.0, 1: 1.0, 2: 2.0, 3: math.inf}
    assert promoted(own, [], 2) == {1, 2}
    assert promoted(own, [], 3) == {1}
    # Against those that came here before: a better generation sends more on, a worse one none.
    assert promoted(own, [4.0, 5.0, 6.0, 7.0], 2) == {0, 1, 2}
    assert promoted(own, [0.1, 0.2, 0.3, 0.4], 2) == set()
    assert promoted({0: math.inf}, [], 2) == set()
    assert promoted({0: 9.0}, [], 4) == {0}  # one of all goes on, however few there are


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"axes": {}}, "axes is empty"),
        ({"axes": {"seed": [1, 2]}}, "between, whole or among"),
        ({"rungs": (0.5, 0.2)}, "ascending"),
        ({"rungs": (0.5, 1.0)}, "ascending"),
        ({"reduction": 1}, "at least 2"),
    ],
)
def test_what_is_no_search_is_said(fields, said):
    with pytest.raises(ConfigError, match=said):
        Search(**{"axes": AXES} | fields)


def test_what_is_no_axis_is_said():
    for wrong in (lambda: between(2, 1), lambda: between(0, 1, log=True), lambda: among([3])):
        with pytest.raises(ConfigError):
            wrong()
    with pytest.raises(ConfigError, match="numbers, words or None"):
        among([1, (2, 3)])


def test_a_study_without_a_search_is_told_how():
    with pytest.raises(UserError, match=r"give it search=Search\(axes=...\)"):
        run(Study("plain", BASE, [{}]), "nowhere")
