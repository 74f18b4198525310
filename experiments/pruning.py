"""What does a smaller share of weights cost?

A byte model is trained whole, then pruned by magnitude, all at once or by and by, and trained on
for a quarter of its length; of the quick start's largest model, half of the weights. `:patterns`:
half of the weights of its blocks, the smallest of all, of each matrix, or 2:4. `:low_rank`: its
blocks' matrices with fewer numbers, as zeros or as two thin matrices. `:tickets`: the masks of a
trained model on its own weights after a twentieth of its length, on those at its start (the same
seed), and on other ones (other seeds), each trained for the whole length.
"""

from typing import Any

from configs import tiny
from scaling.config import form_of
from scaling.config.sweep import Override, Study, grid, product

RETRAINED = 0.25  # of the length before
RATE = 0.5  # of the recipe's peak learning rate, for weights that are good already
SPARSITIES = (0.0, 0.5, 0.75, 0.875, 0.9375)
WIDTHS = (48,)
LARGEST = 80  # of the quick start; half of its weights alone
SMALL = 28  # of the tickets, which are trained for the whole length
EARLY = 0.05  # of the length, to which tickets are rewound


def get_study(arg: str = "") -> Study:
    """The study; a form's name and "debug" are joined by "_"."""
    forms = {
        **{"": _curves, "patterns": _patterns, "low_rank": _low_rank, "tickets": _tickets},
        "law": _law,
    }
    form, debug = form_of(arg, forms)
    base = tiny.get_config("debug" if debug else "")
    tiny.strip(base)
    runs, group = forms[form](debug)
    return Study(
        name="-".join(filter(None, ("pruning", form))),
        question="What does a smaller share of weights cost?",
        base=base,
        runs=runs,
        x="density",
        group=group,
        holdout=False,
    )


def dense(width: int, debug: bool) -> Override:
    """The quick start's model of a width, trained whole."""
    length = 0.1 if debug else tiny.RECIPE.units_per_param
    return tiny.RECIPE.shape(width) | {"train.tokens_per_param": length}


def retrained(parent: Override) -> Override:
    """A run that begins with it, and goes on for a share of its length."""
    return parent | {
        "begins.run": parent,
        "optim.peak_lr": RATE * parent["optim.peak_lr"],
        "train.tokens_per_param": RETRAINED * parent["train.tokens_per_param"],
    }


def _pruned(**fields: Any) -> Override:
    return {"transform.name": "prune"} | {f"transform.{k}": v for k, v in fields.items()}


def _curves(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    widths, sparsities = ((8, 16), (0.0, 0.5)) if debug else (WIDTHS, SPARSITIES)
    amounts = grid({"transform.sparsity": sparsities})
    runs = list[Override]()
    for width in widths:
        begun = retrained(dense(width, debug))
        runs += product([begun | _pruned()], amounts)
        runs += product([begun | _pruned(end=0.5, every=2 if debug else 20)], amounts[1:])
    if not debug:
        runs += product([retrained(dense(LARGEST, debug)) | _pruned()], amounts[:2])
    return runs, ("width", "transform.end")


def _patterns(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    forms: list[Override] = [{}, {"transform.scope": "layer"}, {"transform.group": 4}]
    runs = [
        retrained(dense(width, debug)) | _pruned(modules="blocks") | form
        for width in ((8,) if debug else WIDTHS)
        for form in forms
    ]
    return runs, ("transform.scope", "transform.group")


def _low_rank(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    """A square matrix of half its rank has as many numbers as before: so ranks of a quarter and
    less, of the blocks' matrices, beside sparsities of a half and more.
    """
    begun = retrained(dense(8 if debug else WIDTHS[0], debug))
    shares = (0.25,) if debug else (0.5, 0.25, 0.125)
    factored = {"transform.name": "low_rank", "transform.modules": "blocks"}
    runs = [begun | factored | {"transform.share": share} for share in shares]
    sparsities = SPARSITIES[1:2] if debug else SPARSITIES[:4]
    return [*runs, *(begun | _pruned(modules="blocks", sparsity=s) for s in sparsities)], (
        "transform.name",
    )


def _tickets(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    """The trained model goes on from a run of a twentieth of its length at the peak rate: that is
    what it is rewound to.
    """
    whole = dense(8 if debug else SMALL, debug)
    early = whole | {
        "train.tokens_per_param": EARLY * whole["train.tokens_per_param"],
        **{"optim.schedule": "constant", "optim.final_lr_fraction": 0.1},  # which it does not read
    }
    parent = whole | {"begins.run": early}
    amounts = grid({"transform.sparsity": (0.5,) if debug else SPARSITIES[1:]})
    ticket = whole | {"begins.run": parent} | _pruned(rewind=True)
    starts: list[Override] = [
        {"transform.rewind_to": "begun"},
        *({"seed": seed} for seed in range(3)),
    ]
    if debug:
        starts = starts[:3]
    return [parent, *product([ticket | start for start in starts], amounts)], (
        "transform.rewind_to",
        "seed",
    )


def _law(debug: bool) -> tuple[list[Override], tuple[str, ...]]:
    lengths = grid({"train.tokens_per_param": (0.1,) if debug else (5.0, 15.0)})
    rungs = [tiny.RECIPE.shape(width) for width in ((8,) if debug else (20, 28, 40, 56))]
    amounts = grid({"transform.sparsity": SPARSITIES[:2] if debug else SPARSITIES[:4]})
    # As there: not the tables of symbols, and each matrix by as much.
    gradual = _pruned(
        begin=0.25, end=0.75, every=1 if debug else 5, modules="blocks", scope="layer"
    )
    return product(rungs, lengths, [gradual], amounts), ("width", "tokens")
