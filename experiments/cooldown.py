"""How does the loss fall with data, when one trunk serves every data size?

Five lengths of one model under a warm-up, stable, decay schedule. Up to its cool-down each run is
the longest one: it is trained once, and the others branch off. A sweep of separate cosine runs
spends the whole of every length (Hägele et al. 2024, "Scaling Laws and Compute-Optimal Training
Beyond Fixed Training Durations").
"""

from configs import tiny
from scaling.config.sweep import Study, grid


def get_study(arg: str = "") -> Study:
    """The study; arg "debug" trains five lengths of a few steps."""
    base = tiny.get_config(arg)
    base.optim.schedule = "wsd"
    # As many updates for every length: a warm-up that grows with the run is not shared.
    base.optim.warmup_fraction = None
    base.optim.warmup_steps = 2 if arg == "debug" else 50
    base.optim.decay_fraction = 0.2
    base.optim.final_lr_fraction = 0.0
    base.train.tokens_per_param = None
    steps = (5, 10, 15, 20, 30) if arg == "debug" else (250, 500, 1_000, 2_000, 4_000)
    return Study(
        name="cooldown",
        question="How does the loss of one model fall with the length of its training?",
        base=base,
        runs=grid({"train.steps": steps}),
        x="tokens",
    )
