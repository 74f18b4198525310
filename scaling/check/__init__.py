"""What a run needs on devices that need not be here: `launch.py check` and `sweep --check`.

`report.check` compiles the real train step for a `target.Target` and says what the compiler says:
memory, collectives, and by a roofline the time. `propose` looks for a way to make it fit, `grid`
checks a sweep. Nothing is trained, no array is made.
"""
