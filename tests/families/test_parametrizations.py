"""Parametrizations of every family: multipliers by name against the published tables, the base's
shape, initial scales, and what a factor does to the function that a model computes.
"""

import functools
import json
import math
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
from combinations import Names, every, written

from scaling.config import RunConfig, override
from scaling.devices import sharding
from scaling.errors import ConfigError
from scaling.optim import Multipliers, subtree
from scaling.studies import study
from scaling.train import state as state_lib
from scaling.train import trials
from scaling.train.shapes import step_shapes
from scaling.train.step import train_step
from scaling.transforms import transform

BASE, WIDTH, DEPTH = 8, 32, 8  # widths of the base and of the model, depth; the base's is 2
M, L = WIDTH / BASE, DEPTH / 2
FAMILIES = {names.family: names for names in reversed(every())}


@pytest.fixture(scope="module")
def run(text_files: pathlib.Path) -> Any:
    """`run(family, **fields)`: a resolved run; dots in the fields' names are double underscores."""
    text = f"text:{text_files}/*.txt"

    def make(family: str, **fields: Any) -> RunConfig:
        dotted = {name.replace("__", "."): value for name, value in fields.items()}
        return study.resolve(override(written(FAMILIES[family], text), dotted))

    return make


def wide(run: Any, family: str, name: str, optimizer: str = "adamw", **fields: Any) -> RunConfig:
    """A model M times as wide as the base, and L times as deep where the name says depth."""
    deep = name in ("depth_mup", "completep")
    fields = {
        "model__width": WIDTH,
        "optim__name": optimizer,
        "optim__parametrization": name,
        "optim__base_width": BASE,
        **({"model__depth": DEPTH, "optim__base_depth": 2} if deep else {}),
        **fields,
    }
    return run(family, **fields)


HEADS = {"model__heads": 8, "model__kv_heads": 4, "model__head_dim": 4, "model__mlp_width": 64}
transformer = functools.partial(wide, family="transformer", **HEADS)


def multipliers(config: RunConfig) -> dict[str, Multipliers]:
    found = transform.parametrization(config)
    return {leaf.path: of for leaf, of in zip(found.leaves, found.multipliers, strict=True)}


def of(config: RunConfig, *paths: str) -> set[tuple[float, float, float, float]]:
    """(init, forward, rate, epsilon) of the leaves below these paths, each once."""
    found = {
        (m.init, m.forward, m.rate, m.epsilon)
        for path, m in multipliers(config).items()
        if subtree.matches(path, paths)
    }
    assert found, paths
    return found


# ---- the published tables


def test_adam_in_table_8_of_mup(run):
    """Yang et al. 2022: input 1 and 1; hidden 1/fan-in; output factor 1/fan-in, std and rate 1;
    here over the standard, whose tables and outputs begin with 1/sqrt(width).
    """
    tied = transformer(run, name="mup")
    assert of(tied, "embedding") == {(math.sqrt(M), 1, 1, 1 / M)}
    assert of(tied, "final_norm") == {(1, 1 / M, 1, 1 / M)}  # in the place of the output's factor
    assert of(tied, "w") == {(1, 1, 1 / M, 1 / M)}  # every matrix of the blocks
    assert of(tied, "attention_norm", "mlp_norm", "key_norm", "query_norm") == {(1, 1, 1, 1 / M)}
    untied = transformer(run, name="mup", model__tie_embeddings=False)
    assert of(untied, "head") == {(math.sqrt(M), 1 / M, 1, 1 / M)}
    assert of(untied, "final_norm") == {(1, 1, 1, 1 / M)}
    assert of(untied, "embedding") == {(math.sqrt(M), 1, 1, 1 / M)}


@pytest.mark.parametrize("optimizer", ["lion", "adafactor"])
def test_signed_steps_have_adams_rates(run, optimizer):
    adam = multipliers(transformer(run, name="mup"))
    fields = {"optim__eps": 1e-6} if optimizer == "adafactor" else {}
    other = multipliers(transformer(run, name="mup", optimizer=optimizer, **fields))
    assert {p: m.rate for p, m in adam.items()} == {p: m.rate for p, m in other.items()}
    assert {m.epsilon for m in other.values()} == ({1.0} if optimizer == "lion" else {1 / M})


def test_sgd_in_table_8_of_mup(run):
    """Input and biases fan-out, hidden 1, output fan-in."""
    config = transformer(run, name="mup", optimizer="sgd", model__tie_embeddings=False)
    assert of(config, "embedding") == {(math.sqrt(M), 1, M, 1)}
    assert of(config, "head") == {(math.sqrt(M), 1 / M, M, 1)}
    assert of(config, "w") == {(1, 1, 1, 1)}
    assert of(config, "mlp_norm") == {(1, 1, M, 1)}
    mlp = wide(run, "mlp", "mup", "sgd")
    assert of(mlp, "first/linear/matrix", "hidden/linear/bias") == {(1, 1, M, 1)}
    assert of(mlp, "hidden/linear/matrix", "head/bias") == {(1, 1, 1, 1)}
    assert of(mlp, "head/matrix") == {(math.sqrt(M), 1 / M, M, 1)}


LINEAR = (("matrix/w", "weight"), ("bias", "bias"))
# What the package `mup` (1.0.0) itself gave to these shapes: `benchmarks/mup_package.py`.
PACKAGE = json.loads((pathlib.Path(__file__).parents[1] / "data" / "mup_package.json").read_text())
PERCEPTRON = {
    **{f"first/linear/{ours}": f"first.{theirs}" for ours, theirs in LINEAR},
    **{f"hidden/linear/{ours}": f"hidden.{theirs}" for ours, theirs in LINEAR},
    **{f"head/{ours}": f"head.{theirs}" for ours, theirs in LINEAR},
}
DECODER = {
    "embedding": "embedding.weight",
    "head": "head.weight",
    **{f"blocks/attention/{name}/w": f"{name}.weight" for name in ("query", "key", "out")},
    **{f"blocks/mlp/{name}/w": f"{name}.weight" for name in ("up", "down")},
    "blocks/mlp_norm/scale": "norm.weight",
}


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("model", ["perceptron", "decoder"])
def test_multipliers_are_those_of_the_mup_package(run, optimizer, model):
    """Rate, decay, and of an output its factor and initial std, for the same shapes."""
    assert PACKAGE["shapes"] == {"base": BASE, "width": WIDTH}
    if model == "perceptron":
        config, names = wide(run, "mlp", "mup", optimizer), PERCEPTRON
    else:
        config = transformer(run, name="mup", optimizer=optimizer, model__tie_embeddings=False)
        names = DECODER
    found = multipliers(config)
    for ours, name in names.items():
        theirs, own = PACKAGE[model][name], found[ours]
        assert own.rate == theirs[f"{optimizer} rate"], ours
        assert own.decay == theirs[f"{optimizer} decay"], ours
        assert own.forward == theirs.get("forward", 1.0), ours
        if ours != "embedding" and "init" in theirs:  # PyTorch draws tables with std 1
            assert math.isclose(own.init, theirs["init"], rel_tol=1e-5), ours


def test_completep_in_its_table_1(run):
    """Dey et al. 2025, alpha = 1: branches times 1/L; hidden rate 1/M, decay M, epsilon 1/(M L);
    what is outside of the blocks as in muP. Standard's branches begin with 1/sqrt(2 depth).
    """
    config = transformer(run, name="completep")
    ends, starts = ("attention/out", "mlp/down"), ("query/w", "key/w", "value/w", "up", "gate")
    assert of(config, *ends) == {(math.sqrt(L), 1 / L, 1 / M, 1 / M / L)}
    assert of(config, *starts) == {(1, 1, 1 / M, 1 / M / L)}
    assert {m.decay for p, m in multipliers(config).items() if p.endswith("/w")} == {M}
    assert of(config, "attention_norm", "mlp_norm") == {(1, 1, 1, 1 / M / L)}
    mup = transformer(run, name="mup")
    for name in ("embedding", "final_norm"):
        assert of(config, name) == of(mup, name)


def test_depth_mup_is_alpha_of_a_half(run):
    """Yang et al. 2023: branches 1/sqrt(L), Adam's rate in the blocks 1/sqrt(L); SGD's as it is."""
    config, root = transformer(run, name="depth_mup"), math.sqrt(L)
    assert of(config, "attention/out", "mlp/down") == {(root, 1 / root, 1 / M / root, 1 / M / root)}
    assert of(config, "query/w", "up") == {(1, 1, 1 / M / root, 1 / M / root)}
    assert of(config, "mlp_norm") == {(1, 1, 1 / root, 1 / M / root)}
    sgd = transformer(run, name="depth_mup", optimizer="sgd")
    assert of(sgd, "query/w", "up") == {(1, 1, 1, 1)}
    assert of(sgd, "mlp/down") == {(root, 1 / root, 1, 1)}
    deeper = transformer(run, name="completep", optimizer="sgd")
    assert of(deeper, "query/w", "up") == {(1, 1, L, 1)}


def test_muon_keeps_the_spectral_condition(run):
    """0.2 sqrt(max(a, b)) is the spectral norm of standard's update; times the rate it is as
    sqrt(fan-out / fan-in). What is no hidden matrix is AdamW's.
    """
    config = transformer(run, name="mup", optimizer="muon", model__mlp_width=48)
    found = transform.parametrization(config)
    base = transform.parametrization(
        transformer(
            run, name="standard", optimizer="muon", model__width=BASE, model__heads=2,
            model__kv_heads=1, model__mlp_width=16, optim__base_width=None,
        )
    ).by_path  # fmt: skip
    rates = found.values("rate")
    for leaf in (leaf for leaf in found.leaves if leaf.role == "hidden"):
        norms = [math.sqrt(max(x.fan_in, x.fan_out)) for x in (leaf, base[leaf.path])]
        wanted = [math.sqrt(x.fan_out / x.fan_in) for x in (leaf, base[leaf.path])]
        grown = rates[leaf.path] * norms[0] / norms[1]
        assert math.isclose(grown, wanted[0] / wanted[1], rel_tol=1e-12), leaf.path
    adam = multipliers(transformer(run, name="mup", model__mlp_width=48))
    others = [leaf.path for leaf in found.leaves if leaf.role != "hidden"]
    assert {p: multipliers(config)[p] for p in others} == {p: adam[p] for p in others}


# ---- architectures


def test_attention_logits_are_over_the_channels_of_a_head(run):
    """1/d in the place of 1/sqrt(d), where heads grow; once, on the queries' gain or matrix."""
    grown = {"model__heads": 2, "model__kv_heads": 1, "model__head_dim": 16}
    config = wide(run, "transformer", "mup", **grown | {"optim__base_width": BASE})
    base = {leaf.path: leaf for leaf in transform.parametrization(config).leaves}
    assert base["blocks/attention/query_norm/scale"].shape == (2, 16)
    # The base in proportion has heads of the divisor of 8 nearest to 16 channels: one of 8.
    assert of(config, "query_norm") == {(1, math.sqrt(8 / 16), 1, 1 / M)}
    assert of(config, "key_norm") == {(1, 1, 1, 1 / M)}
    plain = wide(run, "transformer", "mup", **grown, model__qk_norm=False)
    assert of(plain, "attention/query") == {(1, math.sqrt(8 / 16), 1 / M, 1 / M)}
    assert of(plain, "attention/key") == {(1, 1, 1 / M, 1 / M)}


def test_experts_are_hidden_and_their_router_an_output(run):
    fields = HEADS | {"model__moe__experts": 4, "model__moe__shared": 1, "model__moe__width": 64}
    config = wide(run, "transformer", "completep", **fields)
    assert of(config, "moe/up", "moe/gate", "shared/up") == {(1, 1, 1 / M, 1 / M / L)}
    assert of(config, "moe/down", "shared/down") == {(math.sqrt(L), 1 / L, 1 / M, 1 / M / L)}
    assert of(config, "router") == {(math.sqrt(M), 1 / M, 1, 1 / M / L)}


def test_grouped_queries_follow_the_stream(run):
    """Fewer key heads than the base has queries change nothing: fan-in is the stream's."""
    config = transformer(run, name="mup", optimizer="sgd", model__kv_heads=2)
    assert of(config, "attention/query", "attention/out") == {(1, 1, 1, 1)}
    assert of(config, "attention/key", "attention/value") == {(1, 1, 2 / 1 / M, 1)}


def test_recurrent_matrices_are_hidden_gate_by_gate(run):
    config = wide(run, "lstm", "mup")
    assert of(config, "lstm/input", "lstm/state") == {(1, 1, 1 / M, 1 / M)}
    assert of(config, "lstm/bias", "norm") == {(1, 1, 1, 1 / M)}
    assert of(config, "embedding") == {(math.sqrt(M), 1, 1, 1 / M)}
    leaves = transform.described(config).by_path
    assert leaves["layers/lstm/state"].fan_out == WIDTH
    assert leaves["layers/lstm/bias"].fan_out == WIDTH


def test_convolutions_sum_over_places_and_channels(run):
    config = wide(run, "resnet", "completep")
    assert of(config, "stem") == {(1, 1, 1, 1 / M)}
    assert of(config, "stage0/conv0", "stage1_first/shortcut") == {(1, 1, 1 / M, 1 / M / L)}
    assert of(config, "conv1") == {(1, 1 / L, 1 / M, 1 / M / L)}
    assert of(config, "head/matrix") == {(math.sqrt(M), 1 / M, 1, 1 / M)}
    assert of(config, "head/bias") == {(1, 1, 1, 1)}
    post = wide(run, "resnet", "completep", model__order="post", model__block="bottleneck")
    assert of(post, "norm2") == {(1, 1 / L, 1, 1 / M / L)}  # gain and bias
    assert of(post, "conv2") == {(1, 1, 1 / M, 1 / M / L)}


def test_both_players_have_inputs_and_outputs(run):
    config = wide(run, "gan", "completep")
    assert of(config, "generator/first/matrix", "discriminator/first") == {(1, 1, 1, 1 / M)}
    assert of(config, "generator/last/w", "discriminator/head/w") == {
        (math.sqrt(M), 1 / M, 1, 1 / M)
    }
    assert of(config, "conv1") == {(1, 1 / L, 1 / M, 1 / M / L)}


def test_a_read_out_of_fixed_features_is_an_output(run):
    fields = {"model__readout": "normal"}
    config = wide(run, "random_features", "mup", **fields)
    assert multipliers(config) == {"readout": Multipliers(math.sqrt(M), 1 / M, 1.0, 1 / M)}


# What else the network of a family can be.
OTHERS = {
    "fusion": [{"model__fusion": kind} for kind in ("average", "concatenation", "gated", "cross")],
    "convnet": [{"model__block": block} for block in ("plain", "dense", "inception", "mbconv")],
    "encoder_decoder": [{}, {"model__pointer": True}],
    "resnet": [{}, {"model__block": "bottleneck", "model__order": "post"}],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_an_axis_whose_name_says_that_it_is_the_datas_does_not_follow_the_width(run, family):
    for form in OTHERS.get(family, [{}]):
        narrow, broad = (
            transform.leaves(run(family, model__width=width, **form)) for width in (16, 32)
        )
        for path, leaf in narrow.items():
            sizes = zip(leaf.axes, leaf.shape, broad[path].shape, strict=True)
            grown = [axis for axis, one, other in sizes if axis in sharding.FINITE and one != other]
            assert not grown, (form, path)


# ---- at the base's shape


@pytest.mark.parametrize("family", FAMILIES)
def test_at_the_base_shape_the_program_is_standards(run, family):
    """To the letter, so that it is to the bit."""
    name = "completep" if family in ("transformer", "resnet", "gan", "vit", "mixer") else "mup"
    base = run(family)
    model = base.model
    at = {"optim__parametrization": name, "optim__base_width": model.width}
    if name == "completep":
        at["optim__base_depth"] = model.depth
    config = run(family, **at)
    assert set(multipliers(config).values()) == {Multipliers()}
    texts = []
    for one in (base, config):
        shapes = step_shapes(one)
        step = functools.partial(train_step, shapes.pieces, 1)
        init = functools.partial(state_lib.create, shapes.pieces, one)
        made = jax.make_jaxpr(lambda seed, init=init: sharding.unbox(init(seed)))(np.uint32(0))
        texts += [str(jax.make_jaxpr(step)(shapes.state, shapes.batch, shapes.hparams)), str(made)]
    assert texts[:2] == texts[2:]


# ---- initial scales


SLOW = {"resnet", "gan", "vit", "mixer", "lstm_classifier"}  # long to compile


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "family", [pytest.param(f, marks=[pytest.mark.slow] * (f in SLOW)) for f in FAMILIES]
)
def test_matrices_begin_as_the_tables_say(run, family):
    """Measured: the std of what is drawn is 1 / sqrt(fan-in) times a constant in hidden matrices,
    and a constant in inputs and outputs, at three times the width.
    """
    fields = {"model__readout": "normal"} if family == "random_features" else {}
    found = []
    for width in (32, 96):
        heads = {"model__heads": width // 8, "model__kv_heads": width // 16, "model__head_dim": 8}
        own = heads if family == "transformer" else {}
        at = {"optim__parametrization": "mup", "optim__base_width": 32}
        config = run(family, model__width=width, **at, **own, **fields)
        shapes = step_shapes(config)
        init = jax.jit(lambda seed, s=shapes, c=config: state_lib.create(s.pieces, c, seed))
        params = dict(subtree.leaves(sharding.unbox(init(np.uint32(0)).params)))
        for leaf in (x for x in shapes.pieces.parametrization.leaves if x.role != "vector"):
            scale = math.sqrt(leaf.fan_in) if leaf.role == "hidden" else 1.0
            std = float(np.std(params[leaf.path])) * scale
            found.append((leaf.path, std, params[leaf.path].size))
    half = len(found) // 2
    for (path, small, size), (_, large, _) in zip(found[:half], found[half:], strict=True):
        # Four standard errors of the std of so many numbers, cut at two deviations.
        assert abs(large - small) <= 4 / math.sqrt(2 * size) * max(small, large), path


# ---- what a factor does


def test_factors_are_those_of_the_tables_in_the_function(run):
    """A deep and wide model's hidden states, with its parameters as stored, are those of blocks
    whose branches are written with 1/L, behind a final norm with 1/M.
    """
    config = transformer(run, name="completep")
    standard = override(config, {"optim.parametrization": "standard"})
    pieces, plain = state_lib.parts(config), state_lib.parts(standard)
    made = jax.jit(functools.partial(state_lib.create, pieces, config))(np.uint32(0))
    params = sharding.unbox(made.params)
    batch = {
        "tokens": np.arange(16, dtype=np.int32)[None] % 50,
        "positions": np.arange(16, dtype=np.int32)[None],
        "segment_ids": np.zeros((1, 16), np.int32),
    }
    by_hand = jax.tree.map(lambda x: x, params)
    for part, end in (("attention", "out"), ("mlp", "down")):
        by_hand["blocks"][part][end]["w"] = by_hand["blocks"][part][end]["w"] / L
    ours = jax.jit(pieces.model.apply)({"params": params}, batch)
    theirs = jax.jit(plain.model.apply)({"params": by_hand}, batch)
    np.testing.assert_allclose(ours["hidden"] * M, theirs["hidden"], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(ours["head"], theirs["head"])


def test_runs_of_other_rates_share_a_program(run):
    one = transformer(run, name="completep")
    other = override(one, {"optim.peak_lr": 0.3, "seed": 4, "optim.weight_decay": 0.0})
    assert trials.program(one) == trials.program(other)
    assert state_lib.parts(one).optimizer == state_lib.parts(other).optimizer
    wider = override(one, {"optim.base_width": 16})
    assert trials.program(one) != trials.program(wider)


# ---- what cannot be


WRONG = {
    "optim.base_width, the model.width": ("transformer", {"optim__parametrization": "mup"}),
    "optim.base_depth, the model.depth": (
        "transformer",
        {"optim__parametrization": "completep", "optim__base_width": 8},
    ),
    "none that end in a parameter": (
        "lstm",
        {
            "optim__parametrization": "completep",
            "optim__base_width": 8,
            "optim__base_depth": 2,
        },
    ),
    "optim.base_width=7: no base model": (
        "transformer",
        {"optim__parametrization": "mup", "optim__base_width": 7},
    ),
    "model.spectral=2": (
        "gan",
        {"optim__parametrization": "mup", "optim__base_width": 8, "model__spectral": 2},
    ),
    "optim.base_width=8 changes nothing": ("mlp", {"optim__base_width": 8}),
    "optim.base_depth=1 changes nothing": (
        "mlp",
        {"optim__parametrization": "mup", "optim__base_width": 8, "optim__base_depth": 1},
    ),
    "another scale than what ewc.weight": (
        "mlp",
        {
            "optim__parametrization": "mup",
            "optim__base_width": 8,
            "begins__run": "0123456789ab",
            "ewc__weight": 1.0,
        },
    ),
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_named(run, words):
    family, fields = WRONG[words]
    with pytest.raises(ConfigError) as caught:
        run(family, **fields)
    assert words in str(caught.value)


def test_every_family_is_looked_at():
    assert len(FAMILIES) >= 6
    assert all(isinstance(names, Names) for names in FAMILIES.values())
