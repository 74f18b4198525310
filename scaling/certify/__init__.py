"""Whether hyper-parameters transfer, measured: in comes a run with a parametrization, out come the
sizes of everything inside its model at several widths or depths over the first steps
(`coordinates.py`), how they grow (`slopes.py`), and the runs that show where the best learning rate
lies (`transfer.py`).
"""
