"""Names of group values: what is distinct stays distinct, what is equal stays one."""

import json
import math
import string

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.units import folder_names, labels, numbered

CLOSE = st.builds(
    lambda base, ulps: base + ulps * math.ulp(base),
    st.sampled_from([0.95, 0.999, 1e-9, 3e-4, 1.0, 1e6, 123456789.0]),
    st.integers(-3, 3),
)
VALUES = st.lists(
    st.one_of(
        st.floats(),
        CLOSE,
        st.integers(),
        st.integers(2**53 - 3, 2**53 + 3),
        st.sampled_from([10**400, 10**400 + 1, -(10**400)]),
        st.booleans(),
        st.none(),
        st.just(pd.NA),
        st.text(max_size=4),
        st.text(alphabet=string.ascii_letters + "./_- 01", max_size=3),
        st.sampled_from(["None", "nan", "True", "1", "1.0", "0.95", '"1"', "off", "..", "a b"]),
        st.tuples(st.integers(0, 2), st.text(max_size=1)),
    ),
    max_size=12,
)


def _same(a: object, b: object) -> bool:
    """Equality of group values, said another way than in the code."""
    empty = [v is None or v is pd.NA or (isinstance(v, float) and math.isnan(v)) for v in (a, b)]
    if any(empty):
        return all(empty)
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    return a == b


@given(VALUES)
def test_names_agree_exactly_where_the_values_do(values: list[object]) -> None:
    groups, names, folders = numbered(values), labels(values), folder_names(values)
    assert len(groups) == len(names) == len(folders) == len(values)
    for i, a in enumerate(values):
        for j, b in enumerate(values):
            same = _same(a, b)
            assert (groups[i] == groups[j]) == same
            assert (names[i] == names[j]) == same
            assert (folders[i].casefold() == folders[j].casefold()) == same
    assert list(dict.fromkeys(groups)) == list(range(len(set(groups))))


@given(VALUES)
def test_folder_names_can_stand_in_a_path(values: list[object]) -> None:
    for name in folder_names(values):
        assert name.strip(".- ")
        assert len(name) <= 80
        assert not set(name) & set('/\\:*?"<>| \0\n')


@given(VALUES, st.randoms())
def test_a_label_does_not_depend_on_the_order(values: list[object], random: object) -> None:
    order = list(range(len(values)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for name in (labels, folder_names):
        shuffled = name([values[i] for i in order])
        assert shuffled == [name(values)[i] for i in order]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.95, 0.99, 0.995, 0.999, 0.9999], ["0.95", "0.99", "0.995", "0.999", "0.9999"]),
        (list(np.float32([0.95, 0.9999])), ["0.95", "0.9999"]),
        ([1 / 3, 2 / 3], ["0.333", "0.667"]),
        ([1 / 3, 0.333], ["0.3333", "0.333"]),
        ([1234567, 2.1e7, 16384, 131072], ["1.23M", "21M", "16384", "131072"]),
        ([1234567, 1234899], ["1.2346M", "1.2349M"]),
        ([None, "None", 1, True, "1"], ["None", '"None"', "1", "True", '"1"']),
        ([-0.0, 0, float("nan")], ["0", "0", "None"]),
        ([""], ['""']),
    ],
)
def test_labels_read_well(values: list[object], expected: list[str]) -> None:
    assert labels(values) == expected


def test_quoted_labels_are_json() -> None:
    assert [json.loads(name) for name in labels([" a", "\n", ""])] == [" a", "\n", ""]


def test_folder_names_keep_what_is_safe() -> None:
    assert folder_names([-0.5, 0.5, "a-b", None]) == ["-0.5", "0.5", "a-b", "None"]
    first, second, third = folder_names(["a/b", "a b", "A.b"])
    assert first.startswith("a-b-")
    assert second.startswith("a-b-")
    assert third == "A.b"
