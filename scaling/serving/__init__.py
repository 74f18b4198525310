"""A trained run that answers: it continues texts, and says how likely they are.

`continuation.py` writes behind prompts, for `launch.py generate`; `model.py` does it for rows that
differ in all they ask, in few compiled shapes; `server.py` hears of them by HTTP (`launch.py
serve`), as `asked.py` reads them and `answers.py` words what comes of them, and `batching.py` lets
those that come together share a batch. Only as far as evaluation needs it: nothing but the standard
library, one process, one device.
"""
