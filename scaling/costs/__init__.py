"""What a run is in numbers: its size and cost (`sizes`, without jax where the family has closed
formulas), and FLOPs, bytes and parameters counted from the program: any function's (`ledger`), a
run's (`counts`). Nothing is compiled and no device is touched.
"""
