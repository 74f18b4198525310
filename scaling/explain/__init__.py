"""Why a model says what it says: one example of a run that is there, looked into.

Takes a run with its newest state and a row of data, or a text; gives what of the input made the
prediction, where attention looks, and what the stream behind each block says already
(`records/explanation.py`). Called by `launch.py explain`.
"""
