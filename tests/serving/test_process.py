"""`launch.py serve` as a process, before a run that was trained: it says what the run says."""

import concurrent.futures
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from scaling.records import RunDirectory
from scaling.serving.continuation import continue_texts
from scaling.train import passes
from scaling.train.loop import train
from scaling.train.opened import newest

REPOSITORY = pathlib.Path(__file__).parents[2]
PROMPTS = [f"word{i} word{3 * i}"[: 4 + i % 10] for i in range(16)]
JSON = {"Content-Type": "application/json", "Connection": "close"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tiny, tmp_path_factory) -> RunDirectory:
    """Trained until it writes more than one letter."""
    config = tiny({"data.seq_len": 64, "train.steps": 60, "optim.peak_lr": 1e-2, "evals.every": 60})
    home = tmp_path_factory.mktemp("served")
    assert train(config, home, quiet=True).status == "done"
    return RunDirectory.open(config, home)


class Served:
    """The process, and what it is asked."""

    def __init__(self, *flags: str):
        self.process = subprocess.Popen(
            [sys.executable, "launch.py", "serve", "--port=0", *flags],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if found := re.search(r"serving at http://(127\.0\.0\.1):(\d+)/v1", line):
                self.at = found[1], int(found[2])
                return
        raise AssertionError(self.process.communicate()[1])

    def ask(self, **fields) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(*self.at, timeout=120)
        connection.request("POST", "/v1/completions", json.dumps(fields), JSON)
        return connection.getresponse()

    def answer(self, **fields) -> dict:
        answer = self.ask(**fields)
        said = json.loads(answer.read())
        assert answer.status == 200, said
        return said

    def choice(self, **fields) -> dict:
        (found,) = self.answer(**fields)["choices"]
        return found

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.errors = self.process.communicate(timeout=60)[1]
        return self.process.returncode


@pytest.fixture(scope="module")
def served(run):
    found = Served(f"--run={run.path}", f"--run=again={run.path}")
    yield found
    assert found.end() == 0, found.errors


def test_the_likeliest_text_is_that_of_generate(served, run):
    texts = continue_texts(run.path, PROMPTS[:4], 20)
    said = served.answer(model=run.path.name, prompt=PROMPTS[:4], max_tokens=20, temperature=0)
    assert [p + c["text"] for p, c in zip(PROMPTS, said["choices"], strict=False)] == texts
    assert len({text[-20:] for text in texts}) > 1
    assert "up to 65 tokens" in served.said
    assert "rows 1, 2, 4, 8, 16; lengths 16, 32, 64\n" in served.said


def test_log_probabilities_are_those_of_the_evaluation(served, run):
    """Their sum is what the objective counts of the same text, in nats."""
    config, text = run.config(), "word3 word19 wo"
    opened = newest(run)
    tokens = np.array([[256, *text.encode()]], np.int32)
    batch = {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "positions": np.arange(len(text), dtype=np.int32)[None],
        "target_bytes": np.ones((1, len(text)), np.int32),
        "loss_mask": np.ones((1, len(text)), np.float32),
    }
    rows = passes.function(opened.pieces, config, passes.program_of(config, "val"))
    loss = rows(opened.state.evaluated, batch)["loss"]
    for prompt in (text, list(text.encode()), tokens[0].tolist()):
        fields = {"prompt": prompt, "max_tokens": 0, "echo": True, "logprobs": 1}
        said = served.choice(model="again", **fields)
        known = [p for p in said["logprobs"]["token_logprobs"] if p is not None]
        assert len(known) == len(text)
        assert -sum(known) == pytest.approx(float(loss.total[0]), abs=1e-4)
        assert said["text"] == text
    # What is written is as likely as what is then read.
    written = served.choice(model="again", prompt=text, max_tokens=9, logprobs=0, seed=3)
    read = served.choice(
        model="again", prompt=text + written["text"], max_tokens=0, logprobs=0, echo=True
    )
    drawn = written["logprobs"]["token_logprobs"]
    np.testing.assert_allclose(drawn, read["logprobs"]["token_logprobs"][-len(drawn) :], atol=1e-4)


def test_sixteen_at_once_are_as_one_after_the_other(served):
    asked = [
        {
            **{"model": "again", "prompt": prompt, "max_tokens": 5 + i, "seed": i},
            **{"temperature": (0, 0.7, 1.3)[i % 3], "top_p": (1, 0.8)[i % 2]},
        }
        for i, prompt in enumerate(PROMPTS)
    ]
    alone = [served.answer(**one)["choices"] for one in asked]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda one: served.answer(**one)["choices"], asked))
    assert together == alone
    assert len({choice["text"] for choices in alone for choice in choices}) > 12


def test_a_stream_joins_to_what_is_sent_whole(served):
    asked = {"model": "again", "prompt": "word", "max_tokens": 30, "seed": 5, "stop": ["9", "31"]}
    whole = served.choice(**asked)
    lines = served.ask(**asked, stream=True).read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(line.removeprefix("data: "))["choices"][0] for line in lines[:-2]]
    assert "".join(part["text"] for part in parts) == whole["text"]
    assert parts[-1]["finish_reason"] == whole["finish_reason"]


def test_a_signal_in_a_request_lets_it_end(run):
    served = Served(f"--run={run.path}", "--tokens=2000", "--waiting=2")
    try:
        answer = served.ask(prompt="word", max_tokens=1500, stream=True, temperature=0)
        first = answer.readline()
        assert first.startswith(b"data: ")
        served.process.send_signal(signal.SIGTERM)
        assert (first + answer.read()).endswith(b"data: [DONE]\n\n")
    finally:
        code = served.end()
    assert code == 0, served.errors
    assert served.errors == ""
    with pytest.raises(OSError, match="refused"):
        served.ask(prompt="word")
