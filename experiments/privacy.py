"""What does privacy cost, over epsilon and width, and what does it hide?

Perceptrons on the digits, trained with each example's gradient clipped and the sum noised, at
several noises and widths, and without. `:batch`: in batches of several sizes. `:secrets`: byte
models on code in which secrets are planted, whose exposure says what privacy is worth to one who is
attacked. `:attack`: many perceptrons on halves of the digits, of which `benchmarks/membership.py`
guesses who was trained on.
"""

from configs import tiny, vision
from scaling.config import RunConfig, eval_set, form_of, from_dict, override
from scaling.config.sweep import Study, grid, product, with_seeds

NOISES = (0.5, 1.0, 2.0, 4.0)


def get_study(arg: str = "") -> Study:
    """Three widths (or batches) by four noises and none, three seeds; `:secrets`, `:attack`: one
    width; "debug": short.
    """
    form, debug = form_of(arg, ("", *_FORMS))
    return _FORMS.get(form, _digits)(debug)


def _perceptron(debug: bool) -> RunConfig:
    return override(
        from_dict(vision.get_config("debug" if debug else "")),
        {
            "model.family": "mlp",
            "train.epochs": None,
            "train.steps": 4 if debug else 600,
            "train.batch_size": 16 if debug else 128,
            "optim.peak_lr": 1e-2,
        },
    )


def _digits(debug: bool) -> Study:
    base = _perceptron(debug)
    widths: dict[str, tuple[float, ...]] = {"model.width": (4, 8) if debug else (16, 64, 256)}
    private: dict[str, tuple[float, ...]] = {
        "privacy.clip_norm": (1.0,),
        "privacy.noise": NOISES[:2] if debug else NOISES,
    }
    return Study(
        name="privacy",
        question="What does privacy cost, and does width pay for it?",
        base=base,
        runs=with_seeds([*grid(widths), *grid(widths | private)], 1 if debug else 3),
        x="params",
        group=("privacy.noise", "privacy.clip_norm"),
        holdout=False,
    )


def _batch(debug: bool) -> Study:
    """As many images for every batch: larger ones make fewer updates, each with less noise."""
    base = override(_perceptron(debug), {"model.width": 4 if debug else 64})
    images = base.train.batch_size * 600
    batches = [
        {"train.batch_size": batch, "train.steps": 4 if debug else images // batch}
        for batch in ((8, 16) if debug else (32, 128, 512))
    ]
    private = {"privacy.clip_norm": (1.0,), "privacy.noise": NOISES[:2] if debug else NOISES}
    return Study(
        name="privacy_batch",
        question="What does privacy cost in small batches, and in large ones?",
        base=base,
        runs=with_seeds([*batches, *product(batches, grid(private))], 1 if debug else 3),
        x="train.batch_size",
        group=("privacy.noise", "privacy.clip_norm"),
        holdout=False,
    )


def _secrets(debug: bool) -> Study:
    base = tiny.get_config("debug" if debug else "")
    base.data.seq_len = 64
    base.data.canaries = 1 if debug else 8
    base.data.canary_repeats = 4 if debug else 64
    base.data.unique_tokens = 2**11 if debug else 2**17
    base.train.tokens_per_param = None
    base.train.steps = 2 if debug else 600
    base.train.batch_size = 4 if debug else 32
    base.model.width = 16 if debug else 32
    base.model.heads = 1 if debug else 2
    with base.unlocked():
        for times in (1, 4) if debug else (1, 4, 16, 64):
            base.evals.sets[f"x{times}"] = eval_set(by="exposure", repeats=times)
    noises = (0.0, 1.0) if debug else (0.0, 0.3, 1.0)
    runs = product([{"privacy.clip_norm": 1.0}], grid({"privacy.noise": noises}))
    return Study(
        name="privacy_secrets",
        question="What does privacy hide?",
        base=base,
        runs=[{}, *runs],
        x="privacy.noise",
        log_x=False,
        holdout=False,
    )


def _attack(debug: bool) -> Study:
    """Nothing is moved, and a tenth of the labels is wrong: what a model can only know by heart."""
    base = override(
        _perceptron(debug),
        {
            "model.width": 8 if debug else 128,
            "data.unique_examples": 64 if debug else 800,
            "data.shift": 0,
            "data.label_noise": 0.1,
        },
    )
    halves = [{"seed": k, "train.subset_seed": k} for k in range(4 if debug else 24)]
    private = {"privacy.clip_norm": (1.0,), "privacy.noise": (2.0,) if debug else (0.5, 1.5, 4.0)}
    return Study(
        name="privacy_attack",
        question="Can one tell who was trained on?",
        base=base,
        runs=[*halves, *product(grid(private), halves)],
        x="privacy.noise",
        group="privacy.clip_norm",
        log_x=False,
        holdout=False,
    )


_FORMS = {"batch": _batch, "secrets": _secrets, "attack": _attack}
