"""What is written down: the run directory (`directory`), the table of many (`tables`), what a
run took (`timing`), how it stands (`status`), where two differ (`comparison`). In come configs and
numbers, out go files that survive a kill, and what they say. The laws and the report read no more
than this.
"""

from scaling.records.directory import LOG, RunDirectory, State, find_runs

__all__ = ["LOG", "RunDirectory", "State", "find_runs"]
