"""`launch.py completion`: what bash offers at a press of Tab."""

import subprocess

import pytest

from scaling.commands import COMMANDS, completing
from tests.test_flags import forget


@pytest.fixture(scope="module")
def script() -> str:
    forget()
    return completing.script("bash", COMMANDS)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("scaling sw", "sweep"),
        ("scaling sweep --dry", "--dry_run"),
        ("scaling sweep --executor=sl", "slurm"),
        ("scaling sweep --experiment=experiments/quick", "experiments/quickstart.py"),
        ("scaling train --config.optim.peak", "--config.optim.peak_lr="),
        ("scaling train --config.model.token_w", "--config.model.token_width="),  # a mixer's
        ("scaling fit --law=chinchilla_", "chinchilla_tied"),
        ("scaling completion z", "zsh"),
        ("scaling report --config", ""),
    ],
)
def test_what_bash_offers(script, typed, offered):
    code = f"""{script}
    COMP_LINE={typed!r} COMP_POINT={len(typed)}
    _scaling; echo "${{COMPREPLY[@]}}" """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == offered
