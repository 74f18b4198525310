"""The benchmark of what a run spends beside its steps runs in its debug form."""

import re

import pytest
from debug_form import printed


@pytest.mark.exhaustive
def test_the_debug_form_prints_a_ratio_for_each_part():
    text = printed("dispatch.py")
    parts = (r"ratio ([\d.]+)", r"([\d.]+)x what", r"waits ([\d.]+) steps", r"cache \(([\d.]+)x\)")
    for pattern in parts:
        assert float(re.findall(pattern, text)[0]) > 0
