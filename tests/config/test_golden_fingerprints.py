"""Runs keep their names: the stored ones were computed once, and finished runs lie under them."""

import dataclasses
import typing
from typing import Any, Literal

import golden
import pytest
from golden_runs import RUNS

from scaling.config import RunConfig, fingerprint, flat, override, run_name


@pytest.fixture(scope="module")
def given() -> dict[str, RunConfig]:
    return golden.given()


@pytest.fixture(scope="module")
def runs(given: dict[str, RunConfig]) -> dict[str, RunConfig]:
    return {what: golden.resolved(config) for what, config in given.items()}


def test_names_are_as_stored():
    """A difference is a run that is no longer found where it was trained."""
    now, stored = golden.names(), golden.stored_names()
    moved = {what: (name, now.get(what)) for what, name in stored.items() if now.get(what) != name}
    assert moved == {}, "if it is meant: python tests/golden.py --rename"
    assert sorted(now) == sorted(stored), "make golden adds the names of new runs"


def test_a_name_ends_with_the_fingerprint_and_no_two_of_the_runs_share_one(runs):
    """Studies may share a run: who needs it finds it trained. Each of `RUNS` is one of its own."""
    assert all(run_name(run).endswith(f"-{fingerprint(run)}") for run in runs.values())
    prints = [fingerprint(runs[what]) for what in RUNS]
    assert len(set(prints)) == len(prints) >= 30


# ---- every field, by the metadata


def leaves(config: Any, prefix: str = "", execution: bool = False) -> dict[str, tuple[Any, bool]]:
    """Dotted field -> its type, and whether it or a group around it is marked `execution`."""
    found, hints = {}, typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, path = getattr(config, field.name), f"{prefix}{field.name}"
        marked = execution or bool(field.metadata.get("execution"))
        if dataclasses.is_dataclass(value):
            found |= leaves(value, f"{path}.", marked)
        elif not isinstance(value, dict):  # evals.sets
            found[path] = (hints[field.name], marked)
    return found


def choices(hint: Any) -> tuple[Any, ...]:
    """Of a Literal, also of one that may be None; else none."""
    if typing.get_origin(hint) is Literal:
        return typing.get_args(hint)
    return next((choices(a) for a in typing.get_args(hint) if choices(a)), ())


def another(hint: Any, value: Any) -> Any:
    """A value of the type that is not `value`."""
    if known := choices(hint):
        return next(choice for choice in known if choice != value)
    kind = next((a for a in typing.get_args(hint) if a is not type(None)), hint)
    if kind is bool:
        return not value
    return f"{value}-other" if kind is str else kind((value or 0) + 2)


def test_how_a_run_is_executed_moves_no_fingerprint(runs):
    """In a run of each choice of model, data and objective."""
    kinds = {(type(r.model), type(r.data), type(r.objective)): r for r in runs.values()}
    for run in kinds.values():
        marked = [(path, hint) for path, (hint, execution) in leaves(run).items() if execution]
        marked = [(path, hint) for path, hint in marked if len(choices(hint)) != 1]  # no other
        assert len(marked) >= 20
        for path, hint in marked:
            moved = override(run, {path: another(hint, flat(run)[path])})
            assert moved != run, path
            assert fingerprint(moved) == fingerprint(run), path
            assert run_name(moved) == run_name(run), path


# What may be chosen is shown by configs/; the hash of a corpus is that of the stand-in.
APART = {"model.family", "data.kind", "objective.name", "data.corpus"}


def test_the_stored_runs_move_every_field_of_what_is_computed(given):
    """A field of configs/lm.py that no stored run moves could be lost from the fingerprint."""
    values: dict[str, set[Any]] = {}
    for config in given.values():
        for path, value in flat(config).items():
            values.setdefault(path, set()).add(value)
    for path, (hint, execution) in leaves(given["config lm"]).items():
        if not execution and path not in APART:
            assert len(values[path]) > 1, f"add a run to tests/golden_runs.py that moves {path}"
            assert set(choices(hint)) <= values[path], f"{path}: not all its choices are stored"
