"""Runs as programs: the script of docs/exchange.md gives the run's own numbers in a process that
cannot import this code.
"""

import json
import os
import pathlib
import re
import site
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import families
from scaling.config import RunConfig, choices, override
from scaling.errors import UserError
from scaling.exchange import program
from scaling.records import RunDirectory
from scaling.studies import study
from scaling.train.loop import train
from scaling.train.opened import newest

REPOSITORY = pathlib.Path(__file__).parents[2]


def test_a_program_names_the_platforms_that_it_is_for(tiny):
    """What only CPUs and TPUs have is lowered for these; what has no symbolic form for none."""
    inputs = {"tokens": ((4,), "int32")}

    def picky(weights, fields):
        w, x = weights["w"], fields["tokens"].astype(jnp.float32)
        one = jax.lax.platform_dependent(x, cpu=lambda x: x + 1, tpu=lambda x: x + 2)
        return {"out": one * w[None]}

    weights = {"w": np.float32([2.0])}
    found, refused = program.lowered_for(
        program.PLATFORMS, tiny(), program.Forward(picky, inputs), weights, "float32"
    )
    assert found.platforms == ("cpu", "tpu")
    assert list(refused) == ["cuda"]
    again = jax.export.deserialize(found.serialize())
    for rows in (1, 3):
        tokens = np.arange(4 * rows, dtype=np.int32).reshape(rows, 4)
        out = again.call(weights, {"tokens": tokens})["out"]
        np.testing.assert_array_equal(out, 2.0 * (tokens + 1))

    def counting(weights, fields):
        return {"out": weights["w"] * len(fields["tokens"])}

    with pytest.raises(UserError, match=r"no program of any number of rows .* interpreted as an"):
        program.lowered_for(("cpu",), tiny(), program.Forward(counting, inputs), weights, "float32")


def script() -> str:
    """That of the page."""
    page = (REPOSITORY / "docs" / "exchange.md").read_text()
    (found,) = re.findall(r"^```python\n(import sys\n.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len([line for line in found.splitlines() if line]) <= 10
    return found


def elsewhere(folder: pathlib.Path, rows, tmp_path) -> dict[str, np.ndarray]:
    """What the script makes of rows, in a process of its own without this code."""
    alone = 'import importlib.util\nassert importlib.util.find_spec("scaling") is None\n'
    (tmp_path / "script.py").write_text(alone + script())
    np.savez(tmp_path / "rows.npz", **rows)
    # -S leaves out what an editable installation adds.
    packages = os.pathsep.join(site.getsitepackages())
    done = subprocess.run(
        [sys.executable, "-S", "script.py", str(folder), "rows.npz", "out.npz"],
        env={**os.environ, "PYTHONPATH": packages},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(tmp_path / "out.npz"))


VARIANTS = {
    "text": ("configs/lm.py", {"data.source": "text:{text}/*.txt", "data.seq_len": 16}),
    "experts": (
        "configs/lm.py",
        {"data.source": "text:{text}/*.txt", "data.seq_len": 64, "model.moe.experts": 4},
    ),
    "pictures": (None, {"data.source": "digits", "model.width": 8, "model.depth": 1}),
}


@pytest.fixture(scope="module")
def runs(text_files, tmp_path_factory):
    """Name -> a run of two steps."""
    home, found = tmp_path_factory.mktemp("runs"), {}
    small = {
        **{"train.batch_size": 8, "train.steps": 2, "optim.warmup_fraction": None},
        **{"optim.warmup_steps": 0, "evals.batches": 1, "evals.batch_size": 8},
    }

    def run(name: str) -> RunDirectory:
        if name not in found:
            path, fields = VARIANTS[name]
            if path is None:
                names = {"model": "vit", "data": "images", "objective": "classification"}
                config = RunConfig(**{g: choices.new(g, name) for g, name in names.items()})
            else:
                config = study.load_config(path)
                fields = fields | {"model.width": 16, "model.heads": 2, "model.depth": 2}
            placed = {
                k: v.format(text=text_files) if isinstance(v, str) else v for k, v in fields.items()
            }
            config = study.resolve(override(config, small | placed))
            assert train(config, home, quiet=True).status == "done"
            found[name] = RunDirectory.open(config, home)
        return found[name]

    return run


def given(name: str, run: RunDirectory, rows: int) -> dict[str, np.ndarray]:
    rng, data = np.random.default_rng(rows), run.config().data
    if name == "pictures":
        return {"image": rng.normal(size=(rows, 8, 8, 1)).astype(np.float32)}
    return {"tokens": rng.integers(0, 256, (rows, data.seq_len)).astype(np.int32)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["text", "pictures", pytest.param("experts", marks=pytest.mark.exhaustive)]
)
def test_the_script_gives_the_runs_own_logits(name, runs, tmp_path):
    run = runs(name)
    folder = tmp_path / "program"
    program.write(run, folder)
    said = json.loads((folder / program.SIGNATURE).read_text())
    assert said["platforms"] == ["cpu", "cuda", "tpu"]
    opened = newest(run)
    module = families.build(opened.config.model)
    called = jax.jit(lambda p, batch: families.predictions(module.apply({"params": p}, batch)))
    for rows in (2, 5):
        fields = given(name, run, rows)
        found = elsewhere(folder, fields, tmp_path)
        if "tokens" in fields:
            places = np.arange(fields["tokens"].shape[1], dtype=np.int32)[None]
            fields |= {"positions": np.repeat(places, rows, axis=0)}
        own = called(opened.used, fields)
        assert found.keys() == own.keys() == said["outputs"].keys()
        for output, x in own.items():
            assert [rows, *x.shape[1:]] == [rows, *said["outputs"][output]["shape"][1:]]
            assert np.abs(np.asarray(x)).max() > 0.1
            np.testing.assert_allclose(found[output], x, atol=1e-6, rtol=1e-6)


@pytest.mark.slow
def test_weights_are_rounded_and_tokens_are_those_of_the_run(runs, tmp_path):
    run, folder = runs("text"), tmp_path / "program"
    program.write(run, folder, "bfloat16")
    fields = given("text", run, 3)
    rounded = elsewhere(folder, fields, tmp_path)["logits"]
    program.write(run, tmp_path / "whole")
    whole = elsewhere(tmp_path / "whole", fields, tmp_path)["logits"]
    assert 1e-6 < np.abs(rounded - whole).max() < 0.1
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    said = json.loads((folder / program.SIGNATURE).read_text())
    assert tokenizer.encode("ab").ids == [said["separator"], *b"ab"]
    with pytest.raises(UserError, match="is there already"):
        program.write(run, folder)
