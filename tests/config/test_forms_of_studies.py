"""The argument of a study: which form of it, and whether the debug form."""

import pytest

from scaling.config import form_of
from scaling.errors import ConfigError

FORMS = ("", "data", "on_policy")


@pytest.mark.parametrize(
    ("arg", "found"),
    [
        ("", ("", False)),
        ("debug", ("", True)),
        ("data", ("data", False)),
        ("data_debug", ("data", True)),
        ("on_policy_debug", ("on_policy", True)),
    ],
)
def test_a_form_and_its_debug_form(arg, found):
    assert form_of(arg, FORMS) == found


@pytest.mark.parametrize("arg", ["datta", "datta_debug", "debug_data", "datadebug"])
def test_a_typo_is_named_and_does_not_train(arg):
    with pytest.raises(ConfigError, match="is no form of this config"):
        form_of(arg, FORMS)
