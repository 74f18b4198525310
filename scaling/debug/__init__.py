"""Looking into one step of a run: what every module gives, and where it goes wrong.

In goes a config or a run directory and the number of a step (`instant.py`); out come tables and
findings as text. Everything is computed on one device, with the blocks unrolled and nothing
rematerialised, so that every module has a name of its own. `launch.py debug` calls this room.
"""
