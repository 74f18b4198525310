"""The outer search of `launch.py sweep --tune`: trials that Optuna proposes and executors train."""
