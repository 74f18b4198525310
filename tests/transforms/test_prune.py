"""What pruning takes is zero after every update, goes first by size, and never comes back."""

import jax
import numpy as np
import pytest
from stepping import begun, curve

from scaling.config import choices, fingerprint, programs
from scaling.errors import ConfigError, UserError
from scaling.optim import subtree
from scaling.records import RunDirectory, tables
from scaling.train import begins
from scaling.train.loop import train
from scaling.train.opened import newest
from scaling.transforms import transform
from scaling.transforms.prune.functions import rising

PRUNE = {"transform.name": "prune"}
GRADUAL = PRUNE | {"transform.end": 0.5, "transform.every": 2, "transform.sparsity": 0.75}


@pytest.fixture(scope="module")
def first(tiny):
    """Config -> the state that its run begins with; one program for all."""
    kept = {}

    def of(fields=None):
        config = tiny(PRUNE | (fields or {}))
        if "state" not in kept:
            kept["state"] = begun(tiny(PRUNE))
        _, plan, state = kept["state"]
        return config, jax.device_get(begins.begin(state, config, plan, None).params)

    return of


def masks_of(stored):
    return {path: m for path, m in subtree.leaves(stored) if path.endswith("_mask")}


def used_of(config, stored):
    return dict(subtree.leaves(jax.device_get(transform.used(config, stored))))


def test_the_smallest_of_all_are_taken_and_no_other(first):
    config, stored = first({"transform.sparsity": 0.6})
    weights, masks = dict(subtree.leaves(stored)), masks_of(stored)
    size = np.concatenate([np.abs(weights[path.removesuffix("_mask")]).ravel() for path in masks])
    kept = np.concatenate([mask.ravel() for mask in masks.values()])
    assert (~kept).sum() == round(0.6 * kept.size)
    assert size[~kept].max() <= size[kept].min()
    used = used_of(config, stored)
    for path, mask in masks.items():
        w = path.removesuffix("_mask")
        np.testing.assert_array_equal(used[w], weights[w] * mask)
    assert not any(path.endswith("scale_mask") for path in masks)
    shares = [mask.mean() for mask in masks.values()]
    assert max(shares) - min(shares) > 0.01  # of all, and not of each


def test_of_each_matrix_the_same_share_is_taken(first):
    _, stored = first({"transform.scope": "layer", "transform.sparsity": 0.25})
    for path, mask in masks_of(stored).items():
        for one in mask if path.startswith("blocks/") else [mask]:
            assert (~one).sum() == round(0.25 * one.size), path


@pytest.mark.parametrize(("group", "sparsity"), [(4, 0.5), (2, 0.5), (8, 0.75)])
def test_of_each_group_of_inputs_so_many_stay(first, group, sparsity):
    fields = {"transform.group": group, "transform.sparsity": sparsity}
    config, stored = first(fields)
    leaves, weights, found = transform.leaves(config), dict(subtree.leaves(stored)), 0
    for path, mask in masks_of(stored).items():
        path = path.removesuffix("_mask")
        leaf = leaves[path]
        if not path.startswith("blocks/"):
            continue
        rest = [i for i in range(mask.ndim) if i not in (*leaf.ins, *leaf.outs)]
        axes = (*rest, *leaf.outs, *leaf.ins)
        kept, size = (x.transpose(axes).reshape(-1, group) for x in (mask, np.abs(weights[path])))
        assert (kept.sum(axis=1) == group - round(sparsity * group)).all(), path
        smallest = np.where(kept, size, np.inf).min(axis=1)
        assert (np.where(kept, 0, size).max(axis=1) <= smallest).all()
        found += 1
    assert found


def test_the_sparsity_rises_as_a_cubic_and_stays(tiny):
    config = tiny(PRUNE | {"transform.begin": 0.25, "transform.end": 0.75, "transform.every": 10})
    hparams = programs.hparams(config) | {"total_steps": 200, "sparsity": 0.8}
    due, values = zip(
        *(jax.device_get(rising(config.transform, step, hparams)) for step in range(1, 201)),
        strict=True,
    )
    assert np.flatnonzero(due).tolist() == [*range(49, 150, 10)]  # the steps 50, 60, ..., 150
    x = np.clip((np.arange(1, 201) - 50) / 100, 0, 1)
    np.testing.assert_allclose(values, 0.8 * (1 - (1 - x) ** 3), rtol=1e-5)


@pytest.mark.slow
def test_after_every_update_what_is_masked_is_zero_and_stays_masked(tiny):
    """Of one that is pruned by and by: the masks of the first updates are within the later ones."""
    config, before = tiny(GRADUAL), None
    for steps in (2, 5, 8):
        _, stored = curve(config, steps=steps)
        masks, used = masks_of(stored), used_of(config, stored)
        for path, mask in masks.items():
            assert not used[path.removesuffix("_mask")][~mask].any()
            assert before is None or not (mask & ~before[path]).any()
        before = masks
    pruned = sum((~mask).sum() for mask in before.values())
    assert pruned == round(0.75 * sum(mask.size for mask in before.values()))


@pytest.mark.slow
def test_stopped_and_gone_on_with_a_pruned_run_is_uninterrupted(tiny, tmp_path):
    """While its sparsity rises; and the table has the density that the masks have."""
    config, states = tiny(GRADUAL | {"train.steps": 8}), []
    for name, pauses in (("whole", [None]), ("cut", [3, None])):
        for pause in pauses:
            train(config, tmp_path / name, quiet=True, pause=pause)
        states.append(jax.device_get(newest(RunDirectory.open(config, tmp_path / name)).state))
    jax.tree.map(np.testing.assert_array_equal, *states)
    row = tables.table(tmp_path / "whole").iloc[0]
    masks = masks_of(states[0].params)
    pruned = sum((~mask).sum() for mask in masks.values())
    assert pruned == round(0.75 * sum(mask.size for mask in masks.values()))
    assert row["density"] == pytest.approx(1 - pruned / row["params"], rel=1e-6)


@pytest.mark.exhaustive
def test_a_ticket_has_the_others_mask_on_its_own_start(tiny, tmp_path):
    parent = tiny({"train.steps": 8})
    assert train(parent, tmp_path, quiet=True).status == "done"
    trained = newest(RunDirectory.open(parent, tmp_path)).used
    runs, starts = tmp_path / "runs", {}
    begin = {"begins.run": fingerprint(parent)}
    for name, fields in {
        "drawn": {},
        "ticket": PRUNE | begin | {"transform.rewind": True},
        "other": PRUNE | begin | {"transform.rewind": True, "seed": 1},
        "pruned": PRUNE | begin,
    }.items():
        config = tiny(fields)
        _, plan, state = begun(config)
        starts[name] = jax.device_get(begins.begin(state, config, plan, runs).params)
    masks = masks_of(starts["pruned"])
    for name in ("ticket", "other"):
        jax.tree.map(np.testing.assert_array_equal, masks_of(starts[name]), masks)
    drawn, taken = (dict(subtree.leaves(starts[name])) for name in ("drawn", "pruned"))
    for path, w in subtree.leaves(starts["ticket"]):
        if not path.endswith("_mask"):
            np.testing.assert_array_equal(w, drawn[path])
    for path, w in subtree.leaves(jax.device_get(trained)):
        np.testing.assert_array_equal(taken[path], w)
    assert not np.array_equal(
        dict(subtree.leaves(starts["other"]))["embedding"], drawn["embedding"]
    )


@pytest.mark.exhaustive
def test_a_later_ticket_has_the_masks_of_the_last_run_and_the_weights_of_the_first(tiny, tmp_path):
    """Also that a run which began from nothing has no such weights."""
    early = tiny({"train.steps": 2, "seed": 5})
    parent = tiny({"train.steps": 4, "begins.run": fingerprint(early)})
    for config in (early, parent):
        train(config, tmp_path, quiet=True)
    runs = RunDirectory.open(parent, tmp_path).path.parent
    later = PRUNE | {"transform.rewind": True, "transform.rewind_to": "begun"}
    starts = {}
    for name, fields in {"later": later, "pruned": PRUNE}.items():
        config = tiny(fields | {"begins.run": fingerprint(parent)})
        _, plan, state = begun(config)
        starts[name] = jax.device_get(begins.begin(state, config, plan, runs).params)
    jax.tree.map(np.testing.assert_array_equal, *(masks_of(one) for one in starts.values()))
    first = newest(RunDirectory.open(early, tmp_path)).used
    for path, w in subtree.leaves(jax.device_get(first)):
        np.testing.assert_array_equal(dict(subtree.leaves(starts["later"]))[path], w)
    config = tiny(later | {"begins.run": fingerprint(early)})
    _, plan, state = begun(config)
    with pytest.raises(UserError, match="began with no other run"):
        begins.begin(state, config, plan, runs)


def test_what_cannot_be_pruned_is_named(tiny):
    for fields, message in (
        ({"transform.modules": "quary"}, r'transform\.modules: \'quary\' .*did you mean "query"'),
        ({"transform.group": 4, "transform.sparsity": 0.6}, "is no whole number of weights"),
        ({"transform.group": 4}, "does not divide the .* inputs of embedding"),
        ({"transform.begin": 0.5, "transform.end": 0.25}, "must be after transform.begin"),
        ({"transform.rewind": True}, r"transform\.rewind=True changes nothing without begins\.run"),
        ({"transform.rewind_to": "begun"}, r"rewind_to=begun changes nothing without"),
        ({"transform.sparsity": 1.0}, "must be at least 0 and below 1"),
    ):
        with pytest.raises(ConfigError, match=message):
            begun(tiny(PRUNE | fields))


def test_runs_of_many_sparsities_share_a_program(tiny):
    one, other = (tiny(PRUNE | {"transform.sparsity": share}) for share in (0.5, 0.9))
    assert programs.program_of(one) == programs.program_of(other)
    assert fingerprint(one) != fingerprint(other)
    assert programs.hparams(other)["sparsity"] == np.float32(0.9)
    assert choices.transform(one.transform).label(one.transform) == "sparsity 0.5"
