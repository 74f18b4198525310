"""The benchmark of sweep throughput runs in its debug form."""

import pytest
from debug_form import printed


@pytest.mark.exhaustive
def test_the_debug_form_prints_ratios_and_the_best_size():
    text = printed("sweep_throughput.py")
    assert "x sequential" in text
    assert "best by CPU seconds:" in text
