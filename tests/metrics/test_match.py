"""Generated against wanted tokens, by hand and by a loop."""

import numpy as np
import pytest

from scaling.metrics.match import exact_match, token_accuracy


def both(generated, wanted, weight=None, width=4):
    """(exact, tokens) of ragged lists; what stands behind their ends is -1 and -2."""

    def padded(rows, fill):
        array = np.full((len(rows), max(width, *map(len, rows))), fill)
        for i, row in enumerate(rows):
            array[i, : len(row)] = row
        return array, np.array([len(row) for row in rows])

    weight = np.ones(len(wanted)) if weight is None else np.asarray(weight)
    ours, theirs = padded(generated, -1), padded(wanted, -2)
    return exact_match(*ours, *theirs, weight), token_accuracy(*ours, *theirs, weight)


@pytest.mark.parametrize(
    ("generated", "wanted", "exact", "right", "of"),
    [
        ([1, 2, 3], [1, 2, 3], 1, 3, 3),
        ([1, 2], [1, 2, 3], 0, 2, 3),  # too short
        ([1, 2, 3, 4], [1, 2, 3], 0, 3, 3),  # too long
        ([2, 1, 3], [1, 2, 3], 0, 1, 3),
        ([], [5, 5, 5, 5, 5], 0, 0, 5),
        ([7, 7, 7, 7, 7, 7], [7], 0, 1, 1),  # wider than what is wanted
        ([], [], 1, 0, 0),
    ],
)
def test_matches(generated, wanted, exact, right, of):
    found = both([generated], [wanted])
    np.testing.assert_array_equal(found[0], [[exact, 1]])
    np.testing.assert_array_equal(found[1], [[right, of]])


def test_what_stands_behind_an_end_is_not_looked_at():
    tokens = np.array([[1, 2, 9, 9]])
    two, three = np.array([2]), np.array([3])
    one = np.ones(1)
    assert exact_match(tokens, two, tokens, two, one)[0, 0] == 1
    assert exact_match(tokens, two, tokens, three, one)[0, 0] == 0
    assert token_accuracy(tokens, two, tokens, three, one).tolist() == [[2, 3]]


def test_rows_are_apart_and_those_without_weight_are_zeros():
    rng = np.random.default_rng(0)
    generated = [rng.integers(0, 2, size=rng.integers(0, 5)).tolist() for _ in range(40)]
    wanted = [rng.integers(0, 2, size=rng.integers(0, 5)).tolist() for _ in range(40)]
    weight = rng.integers(0, 2, size=40)
    exact, tokens = both(generated, wanted, weight)
    for i, (ours, theirs) in enumerate(zip(generated, wanted, strict=True)):
        right = sum(a == b for a, b in zip(ours, theirs, strict=False))
        assert exact[i].tolist() == [(ours == theirs) * weight[i], weight[i]]
        assert tokens[i].tolist() == [right * weight[i], len(theirs) * weight[i]]
    assert exact[:, 0].sum() > 0
