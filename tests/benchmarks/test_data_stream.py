"""The benchmark of the stream of batches runs in its debug form."""

import re

import pytest
from debug_form import printed


@pytest.mark.exhaustive
def test_the_debug_form_prints_a_ratio():
    text = printed("data_stream.py")
    assert len(re.findall(r"steps: first batch after [\d.]+ ms, [\d.]+ MB more", text)) == 2
    assert float(re.findall(r"ratio of the times ([\d.]+)", text)[0]) > 0
