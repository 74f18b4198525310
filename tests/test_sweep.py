"""The algebra of sweeps, and studies made from them."""

import dataclasses
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.config import RunConfig, base_config, sweep
from scaling.config.sweep import Study, chain, grid, product, with_seeds, zipped
from scaling.errors import ConfigError

VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "cosine"])


def sweeps(keys: str) -> st.SearchStrategy[sweep.Sweep]:
    """Small sweeps that set some of the fields."""
    overrides = st.dictionaries(st.sampled_from(keys), VALUES, max_size=len(keys))
    return st.lists(overrides, max_size=4).map(chain)


# ---- algebra


@given(sweeps("ab"), sweeps("cd"), sweeps("ef"))
def test_product_of_disjoint_fields(a: sweep.Sweep, b: sweep.Sweep, c: sweep.Sweep) -> None:
    assert len(product(a, b)) == len(a) * len(b)
    assert product(a, b) == [x | y for x in a for y in b]  # the first varies slowest
    assert product(product(a, b), c) == product(a, product(b, c)) == product(a, b, c)
    assert product(a) == product(a, [{}]) == product([{}], a) == a
    assert product() == [{}]
    assert product(a, []) == []


@given(sweeps("ab"), sweeps("ab"), sweeps("abc"))
def test_chain_is_a_union_that_keeps_the_first_of_each(
    a: sweep.Sweep, b: sweep.Sweep, c: sweep.Sweep
) -> None:
    assert chain(chain(a, b), c) == chain(a, chain(b, c)) == chain(a, b, c)
    assert chain(a, a) == chain(a) == chain(a, []) == a
    both = chain(a, b)
    assert both[: len(a)] == a
    assert all(any(x is y or x == y for y in both) for x in a + b)


@given(sweeps("ab"), sweeps("ab"), sweeps("cd"))
def test_product_distributes_over_chain(a: sweep.Sweep, b: sweep.Sweep, c: sweep.Sweep) -> None:
    assert product(chain(a, b), c) == chain(product(a, c), product(b, c))


@given(st.lists(st.lists(VALUES, min_size=1, max_size=3, unique_by=repr), max_size=3))
def test_grid_is_the_product_of_its_axes(axes: list[list[Any]]) -> None:
    named = {f"group.f{i}": values for i, values in enumerate(axes)}
    assert grid(named) == product(*[grid({key: values}) for key, values in named.items()])
    assert len(grid(named)) == int(np.prod([len(v) for v in axes]))


def test_values_that_are_equal_but_of_other_types_are_other_settings() -> None:
    assert len(grid(a=[1, 1.0, True])) == 3
    assert grid(a=[1, 2, 1]) == [{"a": 1}, {"a": 2}]
    assert chain([{"a": 1, "b": 2}], [{"b": 2, "a": 1}]) == [{"a": 1, "b": 2}]


def test_zipped_goes_side_by_side() -> None:
    rows = zipped({"model.width": [32, 64]}, seed=[0, 1])
    assert rows == [{"model.width": 32, "seed": 0}, {"model.width": 64, "seed": 1}]


def test_where_keeps_what_it_is_true_for() -> None:
    kept = grid(a=[1, 2, 3], b=[1, 2, 3], where=lambda o: o["a"] * o["b"] <= 3)
    assert kept == [o for o in grid(a=[1, 2, 3], b=[1, 2, 3]) if o["a"] * o["b"] <= 3]
    assert product(grid(a=[1, 2]), grid(b=[1]), where=lambda o: o["a"] > 1) == [{"a": 2, "b": 1}]


def test_seeds_vary_fastest_and_where_asked_only() -> None:
    runs = grid({"model.width": [8, 16]})
    assert with_seeds(runs, 2) == product(runs, grid(seed=[0, 1]))
    assert with_seeds(runs, [7, 9], where=lambda o: o["model.width"] < 16) == [
        {"model.width": 8, "seed": 7},
        {"model.width": 8, "seed": 9},
        {"model.width": 16, "seed": 7},
    ]


def test_numpy_values_become_plain_ones() -> None:
    (first, second) = grid({"model.width": 2 ** np.arange(5, 7)})
    assert type(first["model.width"]) is int
    assert second == {"model.width": 64}
    assert type(grid(x=np.linspace(0, 1, 3))[1]["x"]) is float


def test_inputs_are_not_changed() -> None:
    a, b = [{"x": 1}], [{"y": 2}]
    out = product(a, b) + chain(a, b)
    for o in out:
        o["z"] = 3
    assert (a, b) == ([{"x": 1}], [{"y": 2}])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zipped(a=[1, 2], b=[1]), "a has 2, b has 1"),
        (lambda: product(grid(a=[1]), grid(a=[2])), "a is set twice, to 1 and to 2"),
        (lambda: with_seeds(grid(seed=[5]), 2), "seed is set twice, to 5 and to 0"),
        (lambda: grid({"optim.name": "adamw"}), "optim.name='adamw': give its values as a list"),
        (lambda: grid({"model.width": 32}), "model.width=32: give its values as a list"),
        (lambda: grid({"model.width": []}), "model.width has no values"),
        (lambda: grid({"a": [1]}, a=[2]), "a is given twice"),
        (lambda: grid(a=[1], where=lambda o: o["b"]), "where: .* no field 'b'; it sets a"),
        (lambda: with_seeds([{}], 0), "no seeds"),
    ],
)
def test_mistakes_name_the_field(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_same_value_from_two_sweeps_is_no_conflict() -> None:
    assert product([{"a": 1, "b": 2}], [{"a": 1, "c": 3}]) == [{"a": 1, "b": 2, "c": 3}]


# ---- studies


def test_configs_are_the_base_with_the_overrides_in_order() -> None:
    runs = grid({"model.width": [16, 32], "optim.peak_lr": [1e-3, 1]})
    study = Study(name="s", base=RunConfig(seed=3), runs=runs)
    configs = study.configs()
    assert [(c.model.width, c.optim.peak_lr) for c in configs] == [
        (16, 1e-3),
        (16, 1.0),
        (32, 1e-3),
        (32, 1.0),
    ]
    rest = {dataclasses.replace(c.model, width=16) for c in configs}
    assert rest == {dataclasses.replace(RunConfig().model, width=16)}
    assert {c.seed for c in configs} == {3}


def test_a_study_keeps_nothing_of_what_it_was_made_from() -> None:
    base, runs = base_config(), grid(seed=[0, 1])
    study = Study(name="s", base=base, runs=[*runs, *runs])
    before = study.configs()
    assert len(before) == 2
    base.model.width, runs[0]["seed"] = 8, 9
    assert study.configs() == before


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "../up"}, "Study.name='../up'"),
        ({"name": ""}, "Study.name=''"),
        ({"runs": []}, "study s has no runs"),
        ({"base": {"sead": 1}}, 'sead is no config field .did you mean "seed"'),
    ],
)
def test_a_study_that_cannot_be_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Study(**{"name": "s", "base": RunConfig(), "runs": [{}], **fields})


def test_a_bad_override_names_the_study_and_the_run() -> None:
    study = Study(name="s", base=RunConfig(), runs=grid({"model.widht": [8]}))
    with pytest.raises(ConfigError, match=r"study s, run 0 .*model.widht .*did you mean \"width"):
        study.configs()


def test_the_example_in_the_docstring_is_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(pathlib.Path(__file__).parent.parent))
    doc = textwrap.dedent(" " * 4 + (Study.__doc__ or ""))
    code = textwrap.dedent(doc[doc.index("    from configs") : doc.index("`base` may be")])
    assert len(code.splitlines()) <= 20
    space: dict[str, Any] = {}
    exec(code, space)
    study = space["get_study"]()
    assert len(study.configs()) == 2 * (2 * 3 + 2)
    assert study.base.train.steps is None
    assert len(space["get_study"]("debug").configs()) == 12


def test_no_jax_is_imported() -> None:
    code = "import sys, scaling.config.sweep; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
