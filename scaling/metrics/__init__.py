"""What is measured, and how it becomes a number.

One row of a batch gives a *statistic*: an array of any fixed shape that adds up over rows, batches,
hosts and members of a packed group (float32 on the device, float64 on the host). Its count is part
of it, so that a row that only fills up a batch is all zeros. The number comes once, at the end.

`statistics.py` computes statistics on the device. Everything else here is NumPy: `finish.py` turns
the rows of an evaluation into numbers with standard errors, and asks `calibration.py`, `moments.py`
and their like for what is no mean. `contracts.Metric` names, labels and judges the number.
"""
