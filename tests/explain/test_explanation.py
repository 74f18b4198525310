"""One prediction explained: sanity checks that hold for any weights, and the page of it."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import vision
from scaling import families
from scaling.commands.main import main
from scaling.config import from_dict, override
from scaling.devices import meshes
from scaling.errors import UserError
from scaling.explain import example
from scaling.explain.example import input_of
from scaling.explain.explanation import explain
from scaling.objectives.next_token.cross_entropy import logits
from scaling.records import RunDirectory
from scaling.report.explained import render
from scaling.studies import study
from scaling.train import inside
from scaling.train import state as state_lib
from scaling.train.loop import train
from scaling.train.opened import Opened

PLACE = 12  # whose prediction is explained


def opened(config, larger: float = 1.0) -> Opened:
    """A run before its first update, its weights so many times as large: not all alike to it."""
    pieces, mesh = state_lib.parts(config), meshes.make_mesh(config.mesh, jax.devices()[:1])
    plan = state_lib.layout(pieces, config, mesh)
    state = state_lib.init(pieces, config, plan)
    params = jax.tree.map(lambda p: larger * p if p.ndim > 2 else p, state.params)
    return Opened(config, pieces, plan, state.replace(params=params))


@pytest.fixture(scope="module")
def text(tiny):
    """A text model of two blocks, and a row."""
    one = opened(tiny({"model.depth": 2}), larger=2.0)
    return one, example.of_row(one.config, 3)


@pytest.fixture(scope="module")
def explained(text):
    return explain(*text, ["gradients", "occlusion", "attention", "lens"], PLACE)


def digits(form: str, fields: dict) -> Opened:
    base = override(from_dict(vision.get_config(form)), fields | {"model.width": 8})
    return opened(study.resolve(base))


@pytest.mark.slow
def test_the_sum_of_the_integrated_gradients_is_what_is_explained(explained):
    gradients, occluded = explained.maps
    assert gradients.gap <= 1e-3
    assert gradients.scores.sum() == pytest.approx(gradients.explained, rel=1e-3)
    assert gradients.explained == pytest.approx(occluded.explained, rel=1e-4)


@pytest.mark.slow
def test_maps_are_of_the_weights(explained):
    """Adebayo et al. 2018: with weights drawn anew a map must be another. Of so few places chance
    alone makes the correlation of two that have nothing to do with each other 0.7 now and then.
    """
    for one in explained.maps:
        assert abs(one.redrawn) < 0.8


@pytest.mark.slow
def test_later_places_have_no_part_in_an_earlier_prediction(explained):
    for one in explained.maps:
        assert one.scores.shape == (16,)
        assert np.abs(one.scores[: PLACE + 1]).min() > 0
        # Differences of equal numbers.
        np.testing.assert_allclose(one.scores[PLACE + 1 :], 0, atol=1e-6)


@pytest.mark.slow
def test_attention_is_shared_out_among_earlier_places(explained):
    assert [layer.name for layer in explained.attention] == ["0.attention", "1.attention"]
    for layer in explained.attention:
        assert layer.weights.shape == (2, 16, 16)
        np.testing.assert_allclose(layer.weights.sum(axis=-1), 1, rtol=1e-5)
        assert np.triu(layer.weights, k=1).max() == 0
        assert ((layer.induction > 0) & (layer.induction < 1)).all()


@pytest.mark.slow
def test_behind_the_last_block_the_lens_is_the_model(text, explained):
    one, row = text
    outputs = one.pieces.model.apply({"params": one.state.params}, dict(row.batch))
    own = jax.nn.softmax(families.predictions(outputs)["logits"][0])
    last, first = explained.lens[-1], explained.lens[0]
    # The program is unrolled here.
    np.testing.assert_allclose(last.probability, own.max(axis=-1), rtol=1e-5)
    assert last.predicted == pytest.approx(np.exp(_logs(explained)), rel=1e-3)  # of three digits
    assert np.abs(first.probability - own.max(axis=-1)).max() > 1e-2


def _logs(explained) -> float:
    return float(explained.said.rpartition(", ")[2])


def test_a_model_that_is_cut_knows_nothing_of_the_blocks_behind(text):
    one, row = text
    module = inside.plain(one.config)
    params, batch = one.used, dict(row.batch)
    other = params | {"blocks": jax.tree.map(lambda p: p.at[1].set(0.5), params["blocks"])}

    def cut(blocks, weights):
        return inside.Cut(module, blocks, 2).apply({"params": weights}, batch)["hidden"]

    np.testing.assert_array_equal(cut(1, params), cut(1, other))
    assert np.abs(cut(2, params) - cut(2, other)).max() > 0.01


@pytest.mark.slow
def test_the_page_has_it_all_and_loads_nothing(explained):
    page = render(dataclasses.replace(explained, predicted="<b>"))
    assert "Why &lt;b&gt;?" in page
    assert not re.search(r"https?://|<link|src=\"(?!data:)", page)
    assert page.count("<img") == 4  # two layers of two each
    assert page.count("<table") == 1


@pytest.mark.parametrize(
    ("method", "place", "said"),
    [
        (["lens"], 16, r"--place=16: the text has the places 0 to 15"),
        (["saliency"], None, r"--method=saliency .*; of it there are gradients, occlusion"),
    ],
)
def test_what_cannot_be_explained_is_refused(text, method, place, said):
    with pytest.raises(UserError, match=said):
        explain(*text, methods=method, place=place)


def test_a_text_that_is_given_is_read_behind_its_mark(text):
    one, _ = text
    row = example.of_text(one.config, "word1 word")
    assert row.pieces[0] == "¶"
    assert "".join(row.pieces[1:]) == "word1 word"
    with pytest.raises(UserError, match=r"21 tokens .* reads 16"):
        example.of_text(one.config, "x" * 20)
    with pytest.raises(UserError, match=r"--row=100000: the validation set has \d+ rows"):
        example.of_row(one.config, 100_000)


@pytest.mark.slow
def test_the_command_writes_the_page_of_a_run(tiny, tmp_path, capsys):
    config = tiny({"train.steps": 2, "evals.every": None})
    train(config, tmp_path, devices=jax.devices()[:1], quiet=True)
    run = RunDirectory.open(config, tmp_path).path
    argv = ["launch.py", "explain", str(run), "--text=word1 word", "--method=lens"]
    assert main(argv) == 0
    assert "the text that was given: log-probability of" in capsys.readouterr().out
    page = (run / "explained.html").read_text()
    assert "What the stream says already" in page
    assert "Where attention looks" not in page


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mlp", pytest.param("vit", marks=pytest.mark.exhaustive)])
def test_an_image_is_explained_by_its_pixels(family):
    blocks = family == "vit"
    one = digits("vit" if blocks else "", {"model.family": family, "model.depth": 1})
    row = example.of_row(one.config, 0)
    found = explain(one, row, side=4)
    gradients, occluded = found.maps
    assert gradients.gap <= 1e-3
    assert gradients.scores.shape == found.image.shape[:2] == (8, 8)
    assert len(np.unique(occluded.scores)) <= 4  # squares of 4 pixels
    assert bool(found.attention) == bool(found.lens) == blocks
    if blocks:
        assert found.layers[1].keys() >= {"accuracy", "probe_accuracy"}
    assert render(found).count("<img") == 3 + 4 * blocks


@pytest.mark.slow
def test_a_model_whose_lookup_has_time_first_is_traced_to_its_places(tiny):
    one = opened(tiny({"model.family": "lstm", "model.depth": 1}))
    row = example.of_row(one.config, 0)
    found = explain(one, row, methods=["gradients", "occlusion"], place=2)
    assert found.maps[0].gap <= 1e-3
    for one_map in found.maps:
        assert np.abs(one_map.scores[:3]).min() > 0
        np.testing.assert_allclose(one_map.scores[3:], 0, atol=1e-6)


def test_predictions_are_capped_as_the_loss_has_them():
    keys = jax.random.split(jax.random.key(0))
    hidden, head = jax.random.normal(keys[0], (2, 3, 4)), jax.random.normal(keys[1], (5, 4))
    outputs = {"hidden": hidden, "head": head, "softcap": 0.5}
    found = families.predictions(outputs)["logits"]
    assert np.abs(found).max() <= 0.5
    np.testing.assert_allclose(found, logits(outputs), rtol=1e-5)


def test_an_input_put_in_its_own_place_changes_nothing(text):
    one, row = text
    module = inside.plain(one.config)
    batch = {name: jnp.asarray(x) for name, x in row.batch.items()}
    input_ = input_of(one.config, module, one.used, row)
    same = input_.put(module, one.used, batch, input_.x)["hidden"]
    np.testing.assert_array_equal(same, module.apply({"params": one.used}, batch)["hidden"])
