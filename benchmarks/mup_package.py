"""What the package `mup` (1.0.0, of Yang et al. 2022) gives to models of the shapes that
`tests/families/test_parametrizations.py` looks at: writes `tests/data/mup_package.json`.

    python -m venv mup && mup/bin/pip install torch numpy pyyaml tqdm
    mup/bin/pip install --no-deps mup
    mup/bin/python -m benchmarks.mup_package tests/data/mup_package.json

In an environment of its own, as it needs PyTorch. A leaf's numbers, over those of the base model:
the rate and the decay of MuAdamW and of MuSGD, the initial std over PyTorch's for that shape, and
what an output's input is multiplied by.
"""

import json
import pathlib
import sys

import mup
import torch
from torch import nn

BASE, WIDTH, INPUTS, OUTPUTS, VOCAB = 8, 32, 3, 5, 50


class Perceptron(nn.Module):
    """Two hidden layers."""

    def __init__(self, width: int):
        super().__init__()
        self.first = nn.Linear(INPUTS, width)
        self.hidden = nn.Linear(width, width)
        self.head = mup.MuReadout(width, OUTPUTS)


class Block(nn.Module):
    """The parameters of a decoder with one block and an output of its own."""

    def __init__(self, width: int):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, width)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width // 2, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.head = mup.MuReadout(width, VOCAB, bias=False)


def numbers(make: type[nn.Module]) -> dict[str, dict[str, float]]:
    """Of every parameter of a model of `WIDTH`."""
    torch.manual_seed(0)
    model = make(WIDTH)
    drawn = {name: float(p.detach().std()) for name, p in model.named_parameters() if p.ndim > 1}
    mup.set_base_shapes(model, make(BASE), delta=make(BASE + 4))
    found: dict[str, dict[str, float]] = {}
    for name, parameter in model.named_parameters():
        of = found[name] = {}
        if name in drawn:
            of["init"] = round(float(parameter.detach().std()) / drawn[name], 6)
        if name == "head.weight":
            of["forward"] = 1 / model.head.width_mult()
        for optimizer, build in (("adamw", mup.MuAdamW), ("sgd", mup.MuSGD)):
            made = build([parameter], lr=1.0, weight_decay=1.0)
            (group,) = [group for group in made.param_groups if group["params"]]
            of[f"{optimizer} rate"], of[f"{optimizer} decay"] = group["lr"], group["weight_decay"]
    return found


def main() -> None:
    """Flags as in the module's docstring."""
    out = {
        "shapes": {"base": BASE, "width": WIDTH},
        "perceptron": numbers(Perceptron),
        "decoder": numbers(Block),
    }
    pathlib.Path(sys.argv[1]).write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
