"""Closed formulas against the shapes themselves, and ladders that spend what they are given."""

import dataclasses
import math

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.config import LENGTHS, RunConfig, TrainConfig, override
from scaling.config.contracts import Facts
from scaling.costs import counts, sizes
from scaling.data.kinds.text import TextConfig
from scaling.errors import ConfigError
from scaling.families import transformer
from scaling.families.transformer import TransformerConfig
from scaling.families.transformer import sizes as closed
from scaling.models.fields import MoEConfig
from scaling.studies import ladder

BYTES = Facts("", 0, 0, {"vocab": 257})
RECIPE = ladder.Recipe(model={"head_dim": 16}, batch_exponent=0.5)


def resolved(config: RunConfig, vocab: int = 257) -> RunConfig:
    return dataclasses.replace(
        config, model=transformer.resolve(config.model, Facts("", 0, 0, {"vocab": vocab}))
    )


@st.composite
def transformers(draw) -> TransformerConfig:
    kv_heads, experts = draw(st.integers(1, 3)), draw(st.sampled_from((0, 0, 1, 3)))
    moe = MoEConfig(
        experts=experts,
        per_token=draw(st.integers(1, max(experts, 1))),
        width=draw(st.none() | st.integers(1, 20)),
        shared=draw(st.integers(0, 2)) if experts else 0,
        capacity_factor=draw(st.sampled_from((None, 1.0))),
    )
    config = TransformerConfig(
        width=draw(st.integers(1, 40)),
        depth=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 6)),
        mlp=draw(st.sampled_from(("gated", "plain"))),
        mlp_width=draw(st.none() | st.integers(1, 50)),
        tie_embeddings=draw(st.booleans()),
        qk_norm=draw(st.booleans()),
        scan_layers=draw(st.booleans()),
        positions=draw(st.sampled_from(("rope", "learned"))),
        places=draw(st.integers(4, 20)),
        norm=draw(st.sampled_from(("rms", "layer"))),
        biases=draw(st.sampled_from(("none", "qkv", "all"))),
        moe=moe,
    )
    facts = Facts("", 0, 0, {"vocab": draw(st.integers(1, 60))})
    return transformer.resolve(config, facts)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(transformers())
def test_params_by_formula_are_those_of_the_shapes(model):
    config = RunConfig(model=model, data=TextConfig(seq_len=4), train=TrainConfig(batch_size=1))
    shapes = counts.params_shapes(config)
    size = sizes.size(config)
    assert size.params == sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    tables = [shapes["embedding"].shape]
    if not model.tie_embeddings:
        tables.append(shapes["head"].shape)
    if model.positions == "learned":
        tables.append(shapes["positions"].shape)
    assert size.params_non_embedding == size.params - sum(map(math.prod, tables))
    # Of the routed experts' matrices, per_token of `experts` are active.
    moe = shapes["blocks"].get("moe", {})
    routed = sum(math.prod(moe[name].shape) for name in ("gate", "up", "down") if name in moe)
    idle = routed * (1 - model.moe.per_token / model.moe.experts) if moe else 0
    assert size.params_active == pytest.approx(size.params - idle, rel=1e-12)


def test_conventions_of_flops_differ_by_what_their_names_say():
    config = resolved(RunConfig())
    model, seq_len, by_name = config.model, config.data.seq_len, sizes.conventions(config)
    params = closed.transformer_params(model)
    scores = 12 * model.depth * model.width * seq_len  # heads x head_dim is the width here
    assert sizes.size(config).flops_per_unit == by_name["matmul"]
    # Tied: the embedding's parameters are the head's matrix, so only norms do no matmul.
    assert by_name["palm"] - by_name["matmul"] == 6 * params.norms
    softmax = 3 * 3 * model.depth * model.heads * seq_len
    assert by_name["chinchilla"] - by_name["matmul"] == 6 * params.embedding + softmax
    assert by_name["six_n"] - by_name["kaplan"] == 6 * params.embedding
    assert by_name["matmul"] - by_name["matmul_causal"] == scores * (seq_len - 1) / (2 * seq_len)


@pytest.mark.parametrize("window", [1, 7, 256, 1000])
def test_a_window_charges_only_its_keys(window):
    plain, seq_len = resolved(RunConfig()).model, 256
    windowed = dataclasses.replace(plain, window=window)
    seen = [min(query + 1, window) for query in range(seq_len)]
    for convention, keys in (("full", max(seen)), ("causal", sum(seen) / seq_len)):
        flops = closed.transformer_flops(windowed, seq_len, convention)
        assert flops == closed.flops_with_keys(plain, keys)


@pytest.mark.parametrize("width", range(2, 400, 6))
def test_a_rung_is_a_run_whatever_its_width(width):
    base = RunConfig(train=TrainConfig(epochs=1.0))
    config = resolved(override(base, RECIPE.rung(width)))
    assert config.model.width == width == config.model.heads * config.model.head_dim
    assert [n for n in LENGTHS if getattr(config.train, n) is not None] == ["tokens_per_param"]
    assert math.log2(config.train.batch_size).is_integer()


def test_a_rung_grows_as_the_recipe_says():
    at_base, doubled = RECIPE.rung(128), RECIPE.rung(256)
    assert (at_base["optim.peak_lr"], at_base["train.batch_size"]) == (RECIPE.lr, 32)
    assert doubled["optim.peak_lr"] == pytest.approx(RECIPE.lr * 2**RECIPE.lr_exponent)
    assert RECIPE.rung(512)["train.batch_size"] == 64
    assert doubled["model.depth"] == 2 * at_base["model.depth"] == 8
    assert doubled["model.heads"] == 16


def grouped(**model) -> RunConfig:
    """A base with an MLP of 3.5 times its width, and four query heads to a key head."""
    fields = {"width": 256, "heads": 16, "kv_heads": 4, "mlp_width": 896}
    return RunConfig(model=TransformerConfig(**fields | model), train=TrainConfig(steps=1))


@pytest.mark.parametrize("width", [32, 48, 96, 160, 256, 320, 512, 1000])
def test_a_rung_has_the_proportions_of_its_base(width):
    base = grouped(moe=MoEConfig(experts=4, width=128))
    model = resolved(override(base, RECIPE.rung(width, base))).model
    assert 0 <= model.mlp_width - 3.5 * width < 16
    assert 0 <= model.moe.width - 0.5 * width < 16
    assert model.mlp_width % 16 == model.moe.width % 16 == 0
    # As near to four query heads a key head as their number divides.
    shares = [n for n in range(1, model.heads + 1) if model.heads % n == 0]
    assert model.heads // model.kv_heads in shares
    others = [abs(math.log(share / 4)) for share in shares]
    assert abs(math.log(model.heads / model.kv_heads / 4)) == pytest.approx(min(others))
    if width == 256:
        assert model == resolved(override(base, {"model.depth": model.depth})).model


def test_every_ladder_keeps_the_base_s_proportions():
    base = grouped(mlp="plain", mlp_width=300)
    for run in (
        *ladder.isoflop(RECIPE, (64, 512), (1e12,), base),
        *ladder.chinchilla(RECIPE, base, BYTES, (1e13, 1e15)),
    ):
        model = resolved(override(base, run)).model
        assert model.mlp_width == math.ceil(model.width * 300 / 256)
        assert model.heads == 4 * model.kv_heads or model.heads % 4


def test_a_rung_without_a_base_is_the_default_model_of_its_width():
    model = resolved(override(grouped(), RECIPE.rung(64))).model
    alone = TransformerConfig(width=64, depth=model.depth, heads=4)
    assert model == transformer.resolve(alone, Facts("", 0, 0, {"vocab": 257}))


def test_an_odd_width_is_refused():
    with pytest.raises(ConfigError, match="width=33"):
        RECIPE.rung(33)


def test_isoflop_runs_all_spend_the_budget():
    runs = ladder.isoflop(RECIPE, (32, 64, 96), (1e12, 1e13))
    assert [r["train.flops"] for r in runs] == [1e12] * 3 + [1e13] * 3
    assert [r["model.width"] for r in runs] == [32, 64, 96] * 2
    for run in runs:
        config = override(RunConfig(train=TrainConfig(steps=7)), run)
        assert [n for n in LENGTHS if getattr(config.train, n) is not None] == ["flops"]


def test_chinchilla_runs_take_the_width_of_the_wanted_ratio():
    budgets = [10.0**e for e in range(12, 19)]
    runs = ladder.chinchilla(RECIPE, RunConfig(), BYTES, budgets)
    widths = [run["model.width"] for run in runs]
    assert widths == sorted(widths)

    def ratio(width: int, budget: float) -> float:
        size = sizes.size(resolved(override(RunConfig(), RECIPE.rung(width))))
        return budget / size.flops_per_unit / size.params / RECIPE.units_per_param

    for width, budget in zip(widths, budgets, strict=True):
        chosen = abs(math.log(ratio(width, budget)))
        for other in (width - RECIPE.model["head_dim"], width + RECIPE.model["head_dim"]):
            if other > 0:
                assert chosen <= abs(math.log(ratio(other, budget)))
    with pytest.raises(ConfigError, match="too small"):
        ladder.chinchilla(RECIPE, RunConfig(), BYTES, [1e6])
