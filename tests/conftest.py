"""Eight CPU devices, a compilation cache that lasts, no silent rank promotion; a tiny run.

The tiny run is what most tests train: twelve steps on forty small text files.
"""

import gc
import os
import pathlib

os.environ.setdefault("JAX_PLATFORMS", "cpu")
import jax
import pytest

from configs import lm
from scaling.config import RunConfig, from_dict, override
from scaling.studies import study

REPOSITORY = pathlib.Path(__file__).parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Before the first device query: after it the number of devices is fixed."""
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_numpy_rank_promotion", "raise")
    # Most of a test's time is LLVM's: what it spends on fast code, tiny shapes do not give back.
    jax.config.update("jax_disable_most_optimizations", True)
    jax.config.update("jax_compilation_cache_dir", str(REPOSITORY / ".cache" / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # Thousands of programs stay alive: looking through all of them for garbage takes its time.
    gc.set_threshold(20_000, 20, 100)


# The longest files, first: two processes then end at about the same time.
LONG = ("test_studies.py", "test_launch.py", "test_local.py", "test_loop.py", "test_kill.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order, and what one process takes (`--dist loadgroup`): a file, which shares what it has
    built, unless its tests say otherwise. Nothing depends on either.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.name))
    rank = {name: i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONG)))


TINY = {
    "model.width": 16,
    "model.heads": 2,
    "model.depth": 1,
    "data.seq_len": 16,
    "train.batch_size": 8,
    "train.steps": 12,
    "train.log_every": 1,
    "evals.every": 6,
    "evals.batches": 2,
    "evals.batch_size": 8,
}


@pytest.fixture(scope="session", autouse=True)
def _environment(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For this process and those it starts: corpora are prepared once a session, apart from the
    user's own; programs are compiled once, and quickly.
    """
    patch = pytest.MonkeyPatch()
    patch.setenv("SCALING_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    patch.setenv("JAX_COMPILATION_CACHE_DIR", str(REPOSITORY / ".cache" / "jax"))
    patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")


@pytest.fixture(scope="session")
def text_files(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Forty small files of prose-like text."""
    root = tmp_path_factory.mktemp("text")
    for i in range(40):
        words = [f"word{(i * 7 + j * j) % 61}" for j in range(120)]
        (root / f"{i}.txt").write_text(" ".join(words))
    return root


@pytest.fixture(scope="session")
def tiny_fields(text_files: pathlib.Path) -> dict[str, object]:
    """What the tiny run changes of configs/lm.py."""
    return TINY | {"data.source": f"text:{text_files}/*.txt"}


@pytest.fixture(scope="session")
def tiny(tiny_fields: dict[str, object]):
    """`tiny(**overrides)`: a resolved run of twelve steps on the small text files."""
    base = override(from_dict(lm.get_config()), tiny_fields)

    def make(overrides: dict[str, object] | None = None) -> RunConfig:
        return study.resolve(override(base, overrides or {}))

    return make
