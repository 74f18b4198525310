"""A report of several objectives has a part for each."""

import pandas as pd

from scaling.records import tables
from scaling.report.parts import divided
from scaling.report.runs import repeats, trunks


def test_what_every_table_has_is_in_each_part_and_what_others_measure_is_not():
    """Data without end have no epochs, which a part is asked for all the same."""
    of_all = dict.fromkeys(tables.columns([]))
    one = of_all | {"objective": "tagging", "unit": "example", "epochs": 3.0, "loss": 1.0}
    other = of_all | {"objective": "contrastive", "unit": "scene", "loss": 2.0}
    rows = [one | {"accuracy": 0.9}, one | {"accuracy": 0.8, "branched_from": "x"}]
    frame = pd.DataFrame([*rows, other | {"rank_one": 0.5}])
    parts = {prefix: part for _, prefix, part in divided(frame)}
    endless, tagged = parts["contrastive-scenes-"], parts["tagging-examples-"]
    assert {"accuracy", "rank_one"} & set(endless) == {"rank_one"}
    assert {"accuracy", "rank_one"} & set(tagged) == {"accuracy"}
    assert set(of_all) <= set(endless)
    assert repeats(endless) == trunks(endless) == ""
    assert "up to 3 times" in repeats(tagged)
