"""What is known of the law of the data, from the record of a run to table, sentence and figure."""

import numpy as np
import pytest

from scaling import laws
from scaling.config import RunConfig, choices, override
from scaling.data.kinds.sequences import SequencesConfig, truth
from scaling.records import find_runs
from scaling.records.conventions import conventions
from scaling.records.tables import columns, table
from scaling.report.figures import loss_figure
from scaling.report.findings import find

from .conftest import record

CHAIN = SequencesConfig(symbols=4, length=8, corpus="c0ffee", seed=0)
FLOOR = truth(CHAIN).floor


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    """Runs of five lengths on a chain, whose loss comes down to the entropy."""
    workdir, rng = tmp_path_factory.mktemp("chains"), np.random.default_rng(0)
    known = {"evals.sets.val.corpus": "c0ffee", "train.batch_size": 4}
    base = RunConfig(
        model=choices.new("model", "lstm"),
        data=CHAIN,
        objective=choices.new("objective", "next_token"),
    )
    for steps in (10, 20, 40, 80, 160):
        config = override(base, known | {"train.steps": steps})
        loss = FLOOR + 0.5 / (32 * steps) ** 0.5 * np.exp(0.01 * rng.normal())
        record(config, workdir, loss)
    return table(workdir), [run.config() for run in find_runs(workdir)]


def test_the_table_says_what_is_true(chains):
    frame, configs = chains
    assert set(frame["true_floor"]) == {FLOOR}
    assert set(frame["truth_of"]) == {"loss"}
    assert (frame["true_floor_se"] == 0).all()
    assert {"truth", "true_floor"} <= columns(configs).keys() & conventions(frame).keys()
    assert frame["truth"].iloc[0].startswith("exact")


def test_text_has_no_such_columns(width_study):
    assert not [c for c in table(width_study[0]) if c.startswith("tru")]


def test_the_figure_draws_it_and_a_sentence_says_how_far_off_the_law_is(chains):
    frame = chains[0]
    finding = find(frame, "symbols", "power_floor", test=False)
    assert f"In truth E = {FLOOR:.6g}" in finding.truth
    assert "its interval holds it" in finding.truth
    drawn = loss_figure(frame, "symbols", fit=finding.fit).data
    floor = drawn[drawn["what"] == "known"]["loss"]
    np.testing.assert_allclose(floor, FLOOR)
    # With an exponent it is a curve through the runs.
    frame = frame.assign(**{"true_exponent/amount": 0.5})
    fit = laws.fit(frame, options=laws.Options(x="symbols", bootstrap=100))
    drawn = loss_figure(frame, "symbols", fit=fit).data
    known = drawn[drawn["what"] == "known"]
    np.testing.assert_allclose((known["loss"] - FLOOR) * known["symbols"] ** 0.5, 0.5, rtol=0.02)
