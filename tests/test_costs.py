"""FLOPs of the program, of the formula and of the compiler agree."""

import dataclasses
import functools
import math

import jax
import pytest
from jax.sharding import AbstractDevice, AbstractMesh, AxisType

from scaling import data, optim
from scaling.config import RunConfig, TrainConfig, override
from scaling.config.contracts import Facts
from scaling.costs import counts, sizes
from scaling.costs.ledger import Ledger, ledger, total
from scaling.data.kinds.text import TextConfig
from scaling.devices import meshes, peaks, sharding
from scaling.families import build, transformer
from scaling.families.transformer import TransformerConfig
from scaling.families.transformer import sizes as closed
from scaling.models.attention import SHORT
from scaling.models.fields import MoEConfig
from scaling.objectives.objective import build as build_objective
from scaling.train import state as state_lib
from scaling.train.step import gradients
from tests.models.test_attention import keys_per_query


def run(seq_len: int, **model) -> RunConfig:
    model = transformer.resolve(TransformerConfig(**model), Facts("", 0, 0, {"vocab": 257}))
    train, data = TrainConfig(steps=1, batch_size=4), TextConfig(seq_len=seq_len)
    return RunConfig(model=model, train=train, data=data)


PLAIN = run(96, width=48, depth=2, kv_heads=2, mlp="plain", mlp_width=161, tie_embeddings=False)
RUNS = {
    "gated": run(64, width=64, depth=2, heads=4),
    "plain, untied, shared keys": PLAIN,
    # Slots for just as many tokens as there are, so that the program has no empty ones.
    "experts": run(64, width=48, depth=2, moe=MoEConfig(experts=8, shared=1, capacity_factor=1.0)),
    "blocks of queries": run(128, width=32, depth=3, heads=2, qk_norm=False, logit_softcap=9.0),
    "window": run(192, width=32, depth=1, heads=2, window=50),
}
LONG = {  # attention by a scan over pairs of blocks
    "long": run(512, width=16, depth=1, heads=2),
    "long, window": run(384, width=16, depth=1, heads=2, window=200),
}


def forward(config: RunConfig):
    """(params, batch) -> sums of every row."""
    model, objective = build(config.model), build_objective(config.objective)
    return lambda params, batch: objective.rows(model, params, batch)


def forward_ledger(config: RunConfig) -> Ledger:
    return ledger(forward(config), counts.params_shapes(config), counts.batch_shapes(config))


def without_scan(config: RunConfig) -> RunConfig:
    return override(config, {"model.scan_layers": False})


@pytest.mark.parametrize("config", [*RUNS.values(), *LONG.values()], ids=[*RUNS, *LONG])
@pytest.mark.parametrize("scan", [True, False])
def test_matmul_flops_of_the_program_are_the_closed_formula(config, scan):
    config = config if scan else without_scan(config)
    seq_len = config.data.seq_len
    keys = keys_per_query(seq_len, config.model.window)
    forward = closed.flops_with_keys(config.model, keys)
    # The long form computes the scores again in the backward pass, the half of what it computes.
    again = forward.attention_scores / 2 if seq_len > SHORT else 0
    tokens = seq_len * config.train.batch_size
    assert forward_ledger(config).matmul == tokens * forward.total
    assert counts.train_ledger(config).matmul == tokens * (3 * forward.total + again)
    if keys == seq_len:  # attention in one block is the full convention
        assert sizes.size(config).flops_per_unit == 3 * forward.total


def test_dropless_experts_cost_what_their_own_tokens_cost():
    """Whatever a platform makes of it: the count is that of the ragged product."""
    config = override(RUNS["experts"], {"model.moe.capacity_factor": None})
    for count in (forward_ledger, counts.train_ledger):
        dropless, slots = count(config), count(RUNS["experts"])
        assert (dropless.matmul, dropless.open_loops) == (slots.matmul, 0)


def test_capacity_costs_its_slots():
    """The formula charges a token for its own experts, the program computes empty slots too."""
    config = override(RUNS["experts"], {"model.moe.capacity_factor": 1.5})
    tokens = config.data.seq_len * config.train.batch_size
    counted = counts.train_ledger(config).matmul - counts.train_ledger(RUNS["experts"]).matmul
    experts = closed.transformer_flops(config.model, config.data.seq_len).experts
    assert counted == 0.5 * tokens * 3 * experts


def test_remat_costs_one_more_forward_pass_of_the_blocks():
    config = RUNS["gated"]
    again = counts.train_ledger(override(config, {"model.remat": "full"})).matmul
    forward = closed.transformer_flops(config.model, config.data.seq_len)
    blocks = (forward.total - forward.head) * config.data.seq_len * config.train.batch_size
    extra = again - counts.train_ledger(config).matmul
    # The last matmul of a block is not needed to differentiate it.
    assert 0.8 * blocks < extra <= blocks


def test_attention_by_a_kernel_counts_as_blocks():
    """For a TPU the program has a kernel, which the ledger cannot look into."""
    config = RUNS["blocks of queries"]
    wanted = counts.train_ledger(config)
    device = AbstractDevice("TPU v5 lite", 1, "tpu")
    mesh = AbstractMesh((1,), ("data",), (AxisType.Auto,), abstract_device=device)
    with jax.sharding.use_abstract_mesh(mesh):
        args = counts.params_shapes(config), counts.batch_shapes(config)
        assert "pallas_call" in str(jax.make_jaxpr(forward(config))(*args))
        assert counts.train_ledger(config) == wanted


def test_attention_that_is_kept_is_not_computed_again():
    config = LONG["long"]
    matmuls = [
        counts.train_ledger(override(config, {"model.remat": remat})).matmul
        for remat in ("full", "attention")
    ]
    keys = keys_per_query(config.data.seq_len)
    scores = closed.flops_with_keys(config.model, keys).attention_scores
    assert matmuls[0] - matmuls[1] == scores * config.data.seq_len * config.train.batch_size


def test_remat_computes_again_what_its_policy_does_not_keep():
    """Projections, or attention, or both: beyond 256 tokens attention has a name of its own."""
    config = run(512, width=32, depth=2, heads=2)

    def counted(remat):
        return counts.train_ledger(override(config, {"model.remat": remat})).matmul

    none = counted("none")
    extra = {r: counted(r) - none for r in ("dots", "offload", "attention", "full")}
    assert extra["dots"] == extra["offload"] > 0
    assert extra["attention"] > 0
    assert extra["full"] == extra["dots"] + extra["attention"]


def test_chunks_of_the_loss_cost_one_more_head():
    """The closed formula does not count it, the ledger does."""
    config = RUNS["gated"]
    again = counts.train_ledger(override(config, {"objective.chunk": 16})).matmul
    head = closed.transformer_flops(config.model, config.data.seq_len).head
    tokens = config.data.seq_len * config.train.batch_size
    assert again - counts.train_ledger(config).matmul == tokens * head


@pytest.mark.parametrize("microbatches", [1, 2, 4])
def test_microbatches_are_counted_as_the_step_cuts_them(microbatches):
    """A quarter of the batch is one chunk of the loss, whose logits are kept; more is several."""
    chunks = {"objective.chunk": 64, "optim.warmup_steps": 0}
    config = override(RUNS["gated"], chunks | {"train.microbatches": microbatches})
    pieces = state_lib.parts(config)
    step = functools.partial(gradients, pieces, microbatches)
    shapes = (
        counts.params_shapes(config),
        counts.batch_shapes(config),
        optim.hparams_shapes(config),
    )
    counted = counts.train_ledger(config)
    assert counted.matmul == ledger(step, *shapes, jax.eval_shape(jax.random.key, 0)).matmul
    assert (counted.matmul == counts.train_ledger(RUNS["gated"]).matmul) == (microbatches == 4)
    parts = counts.parts_ledger(config)
    assert total(c for passes in parts.values() for c in passes.values()) == counted


@pytest.mark.parametrize("masked", [True, False])
def test_the_shapes_of_a_batch_are_those_of_its_data(masked, tiny):
    """A group of runs stacks its batches in them, and hashes are of bits."""
    config = tiny({"data.mask_documents": masked})
    batch, shapes = data.train_batches(config).batch(0), counts.batch_shapes(config)
    assert {n: (x.shape, x.dtype) for n, x in batch.items()} == {
        n: (s.shape, s.dtype) for n, s in shapes.items()
    }


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(config, id=name, marks=() if name == "gated" else pytest.mark.slow)
        for name, config in RUNS.items()
    ],
)
def test_flops_are_within_2_percent_of_the_compilers(config):
    config = without_scan(config)
    params, batch = counts.params_shapes(config), counts.batch_shapes(config)
    for function, counted in (
        (jax.jit(forward(config)), forward_ledger(config)),
        (jax.jit(counts.gradient(config)), counts.train_ledger(config)),
    ):
        compiler = function.lower(params, batch).compile().cost_analysis()["flops"]
        assert abs(counted.flops / compiler - 1) < 0.02


PIPELINES = {
    "2 stages": {},
    "4 microbatches": {"model.pipeline_microbatches": 4, "model.remat": "dots"},
    "circular": {"model.pipeline_repeats": 2, "model.remat": "full"},
}


@pytest.mark.slow
@pytest.mark.parametrize("fields", PIPELINES.values(), ids=PIPELINES)
def test_a_pipeline_executes_its_bubble_and_nothing_more(fields):
    config = override(
        run(32, width=32, depth=4, heads=2), fields | {"mesh.stage": 2, "mesh.data": 1}
    )
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:2])
    tokens = config.data.seq_len * config.train.batch_size
    head = tokens * closed.transformer_flops(config.model, config.data.seq_len).head
    for count, passes in ((forward_ledger, 1), (counts.train_ledger, 3)):
        useful = count(config).matmul - passes * head
        with sharding.context(mesh):
            executed = count(config).matmul - passes * head
        assert executed == useful * meshes.pipeline_overhead(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model", [{"width": 128, "depth": 2}, {"depth": 4, "pipeline_repeats": 2, "remat": "full"}]
)
def test_flops_of_a_pipeline_are_within_2_percent_of_the_compilers(model):
    """Unrolled: the compiler counts a loop's body once. A device's share is a half."""
    config = without_scan(run(64, **{"width": 64, "heads": 4} | model))
    config = override(config, {"mesh.stage": 2, "mesh.data": 1, "model.vocab": 256})
    pieces = state_lib.parts(config)
    mesh = meshes.make_mesh(config.mesh, jax.devices()[:2])
    placed = state_lib.layout(pieces, config, mesh).shardings.params
    with sharding.context(mesh):
        params, batch = counts.params_shapes(config), counts.batch_shapes(config)
        step = jax.jit(
            counts.gradient(config),
            in_shardings=(placed, sharding.batch_sharding(mesh)),
            out_shardings=(None, placed),
        )
        compiler = 2 * step.lower(params, batch).compile().cost_analysis()["flops"]
        counted = counts.train_ledger(config).flops
    assert abs(counted / compiler - 1) < 0.02


def test_the_peak_of_the_cpu_is_measured_once_and_shared_by_its_devices():
    peaks.measured_cpu_peak.cache_clear()
    shares = [peaks.peak_flops(device, "float32") for device in jax.devices()]
    assert peaks.measured_cpu_peak.cache_info().misses == 1
    assert 0 < peaks.measured_cpu_peak() < math.inf
    assert shares == [peaks.measured_cpu_peak() / len(shares)] * len(shares)


def test_the_update_costs_some_flops_a_parameter():
    config = override(RUNS["gated"], {"optim.warmup_steps": 0})
    count, params = counts.optimizer_ledger(config), sizes.size(config).params
    assert (count.matmul, count.open_loops) == (0, 0)
    assert 10 < count.flops / params < 40
    plain = override(config, {"optim.name": "sgd", "optim.clip_norm": None})
    assert counts.optimizer_ledger(plain).flops < count.flops / 1.5


# Kind of matmul in the closed formulas -> the parts of the ledger that do it.
MODULES = {
    "attention": [f"attention/{name}" for name in ("query", "key", "value", "out")],
    "attention_scores": ["attention"],
    "mlp": [f"mlp/{name}" for name in ("gate", "up", "down")],
    "router": ["moe/router"],
    "experts": ["moe"],
    "shared_experts": ["moe/shared"],
    "head": ["head"],
}


@pytest.mark.parametrize("name", ["gated", "experts", "blocks of queries", "long"])
@pytest.mark.parametrize("remat", ["none", "full"])
def test_every_part_of_the_model_has_its_matmuls_in_every_pass(name, remat):
    config = override((RUNS | LONG)[name], {"model.remat": remat})
    tokens = config.data.seq_len * config.train.batch_size
    parts = counts.parts_ledger(config)
    keys = keys_per_query(config.data.seq_len, config.model.window)
    formula = dataclasses.asdict(closed.flops_with_keys(config.model, keys))
    for kind, flops in formula.items():
        if flops:
            of_kind = [parts[name] for name in MODULES[kind] if name in parts]
            found = {p: total(passes[p] for passes in of_kind).matmul for p in counts.PASSES}
            # The long form computes its scores again: forward 2, backward 5 matmuls of their size.
            twice = 2.5 if kind == "attention_scores" and name == "long" else 2
            assert found["forward"] == tokens * flops
            assert found["backward"] == twice * tokens * flops
            assert 0 <= found["remat"] <= found["forward"]
            assert (found["remat"] > 0) == (remat == "full" and kind != "head")
    rest = {part for part in parts if not any(part in names for names in MODULES.values())}
    assert {"other", "embedding", "final_norm", "attention_norm", "mlp_norm"} <= rest
    assert all(total(parts[part].values()).matmul == 0 for part in rest)
    assert parts["final_norm"]["remat"].flops == 0  # it lies outside of the blocks
    everything = total(count for passes in parts.values() for count in passes.values())
    assert everything == counts.train_ledger(config)
