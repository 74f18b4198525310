"""The sub-commands of `launch.py`, by name. Each imports the rooms it needs when it runs."""

from scaling.commands import (
    certifying,
    comparing,
    completing,
    compressing,
    corpora,
    debugging,
    exchanging,
    explaining,
    inspection,
    laws,
    pods,
    sampling,
    shelf,
    sweep,
    tables,
    together,
    tracking,
    train,
)
from scaling.commands.command import Command

COMMANDS: dict[str, Command] = {
    **train.COMMANDS,
    **sweep.COMMANDS,
    **pods.COMMANDS,
    **corpora.COMMANDS,
    **tables.COMMANDS,
    **laws.COMMANDS,
    **inspection.COMMANDS,
    **sampling.COMMANDS,
    **together.COMMANDS,
    **comparing.COMMANDS,
    **compressing.COMMANDS,
    **exchanging.COMMANDS,
    **debugging.COMMANDS,
    **explaining.COMMANDS,
    **certifying.COMMANDS,
    **shelf.COMMANDS,
    **tracking.COMMANDS,
    **completing.COMMANDS,
}
