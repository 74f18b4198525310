"""The combinations of `combinations.py`, one after the other; each is built once a session."""

import pathlib

import pytest
from combinations import ONE_MESH, Combination, Names, every

# What is compiled and trained in the fast part, where of each family the first combination is; the
# tests that the others take in the slow part.
# In the exhaustive part: more than one mesh of theirs, and a family on further kinds of data.
FAST = ("transformer", "text")
EVERY_MESH = {"transformer", "resnet"}
FIRST = {one.family: one for one in reversed(every())}.values()
# Further objectives of a family on the same data are in the exhaustive part, but for those of one.
FIRST_ON = {(one.family, one.kind): one for one in reversed(every())}.values()
EVERY_OBJECTIVE = {("mlp", "images")}
# In the slow part each combination takes one of these three, in turn, and in the exhaustive part
# all: what needs runs that the loop has trained, what needs its gradient, and what counts its
# program. (Each is trained in the debug form of its config as well.)
TURNS = (
    {
        "test_a_mesh_gives_the_same_losses",
        "test_packed_is_alone",
        "test_stopped_and_continued_is_uninterrupted",
        "test_the_table_has_its_metrics_and_its_unit",
        "test_training_on_one_batch_lowers_its_loss",
    },
    {
        "test_a_loop_over_layers_is_the_layers_one_after_the_other",
        "test_a_model_that_is_cut_behind_its_last_block_is_itself",
        "test_microbatches_are_the_full_batch",
        "test_rows_that_fill_up_a_batch_count_for_nothing",
        "test_what_is_computed_again_changes_nothing",
    },
    {
        "test_check_compiles_it",
        "test_the_closed_size_is_the_counted_one",
        "test_the_ledger_is_what_the_compiler_counts",
    },
)
SLOW = set[str]().union(*TURNS)
HEAVY = {
    "fusion",
    "gan",
}  # whose training is compiled for a minute, and waits for the exhaustive part
PLACES = {names: i for i, names in enumerate(FIRST)}


def _turn(names: Names) -> set[str]:
    """Those of the three that it takes."""
    turn = PLACES[names] % len(TURNS)
    return TURNS[-1 if names.family in HEAVY and turn == 0 else turn]


def _waits(names: Names, test: str) -> bool:
    """Whether it is another's turn."""
    return test in SLOW and names in PLACES and test not in _turn(names)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what is slow."""
    for item in items:
        of = getattr(item, "callspec", None)
        names = of.params.get("one") if of is not None else None
        if not isinstance(names, Names):
            continue
        slow, further = item.originalname in SLOW, names not in FIRST_ON
        mesh = names.family not in EVERY_MESH and of.params.get("mesh", ONE_MESH) != ONE_MESH
        chosen = names in FIRST or (names.family, names.kind) in EVERY_OBJECTIVE
        first = (names.family, names.kind) == FAST
        waits = not first and _waits(names, item.originalname)
        if waits or ((slow or further) and (mesh or not chosen)):
            item.add_marker(pytest.mark.exhaustive)
        elif (
            names not in FIRST
            or of.params.get("mesh", ONE_MESH) != ONE_MESH
            or (slow and not first)
        ):
            item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.xdist_group(str(names)))  # one process builds and compiles it


@pytest.fixture(scope="session", params=every(), ids=str)
def one(
    request: pytest.FixtureRequest,
    text_files: pathlib.Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Combination:
    """A family, a kind of data and an objective that fit."""
    return Combination(request.param, f"text:{text_files}/*.txt", tmp_path_factory.mktemp("alone"))
