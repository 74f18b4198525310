"""Whose examples are whose, and what a round reads of them."""

import numpy as np
import pytest

from scaling.data.clients import Rounds, owned_by
from scaling.errors import DataError

LABELS = np.random.default_rng(0).integers(0, 10, 1000)


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.0])
def test_every_example_has_one_owner_at_most(skew):
    owned = owned_by(1000, 30, skew, LABELS)
    assert owned.shape == (30, 33)
    assert len(np.unique(owned)) == owned.size
    assert owned.min() >= 0
    assert owned.max() < 1000


def test_the_share_that_is_skewed_is_of_few_classes():
    def classes(skew):
        return np.mean([len(set(LABELS[mine])) for mine in owned_by(1000, 20, skew, LABELS)])

    assert classes(1.0) <= 2  # a run of fifty of a hundred that are of one class
    assert classes(1.0) < classes(0.9) < classes(0.0)
    assert classes(0.0) > 9.5
    places = owned_by(1000, 20, 1.0, None)
    assert (np.diff(places, axis=1) > 0).all()  # without labels: neighbours in the set's order
    assert (np.ptp(places, axis=1) < 60).all()


def test_a_round_reads_of_few_clients_and_each_reads_its_own():
    owned = owned_by(1000, 20, 0.5, LABELS)
    owner = {int(e): c for c, mine in enumerate(owned) for e in mine}
    rounds = Rounds(owned, per_round=4, seed=3)
    met = set()
    for step in range(30):
        taken = rounds.taken(np.arange(step * 40, (step + 1) * 40), 40).reshape(4, 10)
        clients = [{owner[int(e)] for e in rows} for rows in taken]
        assert all(len(one) == 1 for one in clients)
        assert len(set.union(*clients)) == 4
        assert all(len(set(rows.tolist())) == 10 for rows in taken)  # none twice in a round
        met |= set.union(*clients)
    assert met == set(range(20))


def test_any_rows_of_any_round_are_the_same_numbers():
    rounds = Rounds(owned_by(300, 10, 0.0, None), per_round=5, seed=1)
    whole = rounds.taken(np.arange(400), 40)
    some = np.random.default_rng(0).permutation(400)[:77]
    np.testing.assert_array_equal(rounds.taken(some, 40), whole[some])
    assert (rounds.taken(np.arange(40), 40) != whole[40:80]).any()


def test_more_clients_than_examples_are_refused():
    with pytest.raises(DataError, match=r"federated\.clients=11: the training set has 10"):
        owned_by(10, 11, 0.0, None)
