"""The server over loopback, before a model that counts: bounds, batches, streams, and its end."""

import concurrent.futures
import contextlib
import http.client
import json
import pathlib
import socket
import threading
import time
import types
from collections.abc import Iterator

import numpy as np
import pytest

from scaling.config import RunConfig, choices
from scaling.data.kinds.text.tokenizers import ByteTokenizer
from scaling.errors import UserError
from scaling.families.telling import Told
from scaling.serving.model import KNOWN, Model, Scores
from scaling.serving.server import Bounds, Server


class Counting(Model):
    """Behind a text that ends in "c" it writes "defgh..."; a byte's log-probability is minus its
    number. It begins when the gate is open.
    """

    def __init__(self, limit: int = 64, rows: int = 4):
        self.name, self.rows, self.limit, self.tokens = "counting", rows, limit, 257
        self.tokenizer = ByteTokenizer()
        self.gate, self.batches, self.entered = threading.Event(), [], threading.Event()
        self.gate.set()

    def write(self, rows):
        self.batches.append(len(rows))
        self.entered.set()
        self.gate.wait()
        if any(row.tokens[-1] == ord("!") for row in rows):
            raise ValueError("no room")
        new = np.array(
            [[(r.tokens[-1] + 1 + i) % 256 for i in range(r.most)] for r in padded(rows)]
        )
        for i in range(0, new.shape[1], 3):
            yield Told(*told(new[:, i : i + 3]))

    def score(self, texts):
        return [Scores(*(x[0] for x in told(np.array([text[1:]]))[1:])) for text in texts]


def padded(rows):
    most = max(row.most for row in rows)
    return [type(row)(row.tokens, most) for row in rows]


def told(tokens):
    best = np.stack([tokens] + [np.full_like(tokens, i) for i in range(KNOWN - 1)], axis=-1)
    return tokens, -tokens.astype(np.float32), best, -best.astype(np.float32)


@contextlib.contextmanager
def serving(model: Model, **bounds) -> Iterator[Server]:
    """A server that listens, until the block ends."""
    server, stop = Server("127.0.0.1", 0, {model.name: model}, Bounds(**bounds)), threading.Event()
    thread = threading.Thread(target=server.serve_until, args=(stop,))
    thread.start()
    server.ask_to_stop = stop.set
    try:
        yield server
    finally:
        stop.set()
        model.gate.set()
        thread.join(10)
        assert not thread.is_alive()


@contextlib.contextmanager
def connected(server: Server) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    with contextlib.closing(connection):
        yield connection


JSON = {"Content-Type": "application/json"}


def ask(server: Server, **fields) -> tuple[int, dict]:
    """Status and answer of one request."""
    with connected(server) as connection:
        connection.request("POST", "/v1/completions", json.dumps(fields), JSON)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def wait_for(what) -> None:
    ends = time.monotonic() + 10
    while not what():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_what_is_known_and_counted():
    with serving(Counting()) as server:
        with connected(server) as connection:
            for path in ("/health", "/v1/models", "/v1/models/counting"):
                connection.request("GET", path)  # one connection for all of them
                answer = connection.getresponse()
                assert (answer.status, answer.will_close) == (200, False)
                said = json.loads(answer.read())
        assert said["max_model_len"] == 64
        status, said = ask(server, prompt=["abc", "x"], max_tokens=3, n=2, model="counting")
        assert status == 200
        assert [c["text"] for c in said["choices"]] == ["def", "def", "yz{", "yz{"]
        assert [c["index"] for c in said["choices"]] == [0, 1, 2, 3]
        assert {c["finish_reason"] for c in said["choices"]} == {"length"}
        assert said["usage"] == {"prompt_tokens": 4, "completion_tokens": 12, "total_tokens": 16}
        assert ask(server, prompt=[97, 98], max_tokens=2)[1]["choices"][0]["text"] == "cd"
        status, said = ask(server, prompt="abc", max_tokens=20, stop=["ij", "h"])
        (choice,) = said["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("defg", "stop")
        assert said["usage"]["completion_tokens"] == 5  # the stop's own too


def test_tokens_are_told_to_who_counts_before_asking():
    with serving(Counting()) as server:

        def told_at(path, **fields):
            with connected(server) as connection:
                connection.request("POST" if fields else "GET", path, json.dumps(fields), JSON)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())

        status, about = told_at("/tokenizer_info")
        assert status == 200
        _, said = told_at("/tokenize", prompt="aé", add_special_tokens=False)
        assert said == {"tokens": [97, 195, 169], "count": 3, "max_model_len": 64}
        assert told_at("/tokenize", prompt="a")[1]["tokens"] == [256, 97]
        # By its name, as it is told, the separator is one token.
        ends = f"a{about['eos_token']}b{about['bos_token']}"
        _, said = told_at("/tokenize", prompt=ends, add_special_tokens=False)
        assert said["tokens"] == [97, 256, 98, 256]
        assert told_at("/detokenize", tokens=[256, 97, 195, 169]) == (200, {"prompt": "aé"})
        for path, fields, named in (
            ("/tokenize", {"prompt": ["a"]}, "prompt must be a text"),
            ("/tokenize", {"text": "a"}, "text is no field of /tokenize"),
            ("/tokenize", {"prompt": "a", "model": "other"}, "model='other' is none"),
            ("/detokenize", {"tokens": [257]}, "257 is no token"),
            ("/detokenize", {"tokens": "a"}, "tokens must be a list"),
        ):
            status, said = told_at(path, **fields)
            assert status in (400, 404)
            assert named in said["error"]["message"]
        server.models = {**server.models, "other": Counting()}
        assert told_at("/tokenizer_info")[0] == 200
        server.models["other"].tokenizer = types.SimpleNamespace(identity="other")
        status, said = told_at("/tokenizer_info")
        assert (status, "several tokenizers" in said["error"]["message"]) == (400, True)


def test_texts_are_scored_as_the_evaluation_harness_asks():
    """Nothing new, or one token, behind an echo; a token is the greedy one where no other of the
    likeliest has more.
    """
    with serving(Counting()) as server:
        for new in (0, 1):
            fields = {"max_tokens": new, "logprobs": 1, "echo": True, "temperature": 0}
            _, said = ask(server, prompt=["aé", [256, 98]], **fields)
            first, second = said["choices"]
            assert first["text"] == "aé" + "\ufffd" * new
            known = first["logprobs"]
            assert known["tokens"][:3] == ["a", "bytes:\\xc3", "bytes:\\xa9"]
            assert known["token_logprobs"] == [-97.0, -195.0, -169.0, *[-170.0] * new]
            assert known["text_offset"] == [0, 1, 1, *[2] * new]
            assert known["top_logprobs"][0] == {"a": -97.0}
            # The separator that stands there already is not put there again, and is not scored.
            assert second["logprobs"]["token_logprobs"][:2] == [None, -98.0]
            assert second["logprobs"]["top_logprobs"][0] is None
            assert said["usage"]["completion_tokens"] == 2 * new


def test_a_stream_joins_to_the_whole():
    asked = {"prompt": "abc", "max_tokens": 8, "logprobs": 2, "echo": True, "stop": "jk"}
    with serving(Counting()) as server:
        _, whole = ask(server, **asked)
        usage = {"stream": True, "stream_options": {"include_usage": True}}
        with connected(server) as connection:
            connection.request("POST", "/v1/completions", json.dumps(asked | usage), JSON)
            answer = connection.getresponse()
            assert answer.getheader("Content-Type").startswith("text/event-stream")
            events = [line[6:] for line in answer.read().decode().split("\n\n") if line]
    assert events[-1] == "[DONE]"
    *parts, last = map(json.loads, events[:-1])
    assert len(parts) > 2
    choices = [part["choices"][0] for part in parts]
    assert (
        "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"] == "abcdefghi"
    )
    assert [c["finish_reason"] for c in choices] == [None] * (len(parts) - 1) + ["stop"]
    for name, values in whole["choices"][0]["logprobs"].items():
        assert [x for c in choices for x in c["logprobs"][name]] == values
    assert last["usage"] == whole["usage"]


def test_those_that_wait_share_a_batch():
    model = Counting(rows=4)
    with serving(model) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        model.gate.clear()
        first = pool.submit(ask, server, prompt="abc", max_tokens=2)
        wait_for(model.entered.is_set)
        others = [pool.submit(ask, server, prompt=p, max_tokens=2) for p in "abcdef"]
        wait_for(lambda: server.batcher.waiting == 6)
        model.gate.set()
        texts = [other.result()[1]["choices"][0]["text"] for other in others]
        assert texts == ["bc", "cd", "de", "ef", "fg", "gh"]
        assert first.result()[0] == 200
    assert model.batches == [1, 4, 2]


def test_texts_that_do_not_fit_together_are_not_put_together():
    model = Counting(limit=20)
    long, short = {"prompt": "a" * 15, "max_tokens": 2}, {"prompt": "a", "max_tokens": 15}
    with serving(model) as server, concurrent.futures.ThreadPoolExecutor(8) as pool:
        model.gate.clear()
        answers = [pool.submit(ask, server, prompt="x", max_tokens=1)]
        wait_for(model.entered.is_set)
        answers += [pool.submit(ask, server, **one) for one in (long, short)]
        wait_for(lambda: server.batcher.waiting == 2)
        model.gate.set()
        assert {answer.result()[0] for answer in answers} == {200}
    assert model.batches == [1, 1, 1]


def test_more_than_may_wait_is_sent_away():
    model = Counting()
    with (
        serving(model, waiting=2, rows=2) as server,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        model.gate.clear()
        running = pool.submit(ask, server, prompt="abc", max_tokens=1)
        wait_for(model.entered.is_set)
        waiting = pool.submit(ask, server, prompt="abc", max_tokens=1, n=2)
        wait_for(lambda: server.batcher.waiting == 2)
        status, said = ask(server, prompt="abc", max_tokens=1)
        assert (status, said["error"]["type"]) == (429, "rate_limit_error")
        model.gate.set()
        assert {running.result()[0], waiting.result()[0]} == {200}
        assert ask(server, prompt="abc", max_tokens=1)[0] == 200


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "no prompt"),
        ({"prompt": "a", "max_tokens": 63}, 400, "more than the 64"),
        ({"prompt": "a", "max_tokens": -1}, 400, "whole number from 0 to 64"),
        ({"prompt": "a", "max_tokens": True}, 400, "max_tokens=True"),
        ({"prompt": [300]}, 400, "300 is no token"),
        ({"prompt": [["a"]]}, 400, "prompt must be"),
        ({"prompt": "a", "n": 3}, 400, "from 1 to 2"),
        ({"prompt": ["a", "b", "c"]}, 400, "3 choices"),
        ({"prompt": "a", "temperature": float("nan")}, 400, "temperature=nan"),
        ({"prompt": "a", "temperature": 10**400}, 400, "number from 0 to 100"),
        ({"prompt": "a", "top_p": 0}, 400, "leaves no token"),
        ({"prompt": "a", "logprobs": 9}, 400, "from 0 to 5"),
        ({"prompt": "a", "stop": [1]}, 400, "stop must be"),
        ({"prompt": "a", "stream": "yes"}, 400, "true or false"),
        ({"prompt": "a", "best_of": 3}, 400, "best_of is not done here"),
        ({"prompt": "a", "tmeperature": 0}, 400, "tmeperature is no field"),
        ({"prompt": "a", "model": "other"}, 404, "none that is served here (counting)"),
        ({"prompt": "a" * 4000}, 413, "2000 are read"),
        ({"prompt": "a!", "max_tokens": 1}, 500, "ValueError: no room"),
    ],
)
def test_what_cannot_be_is_one_sentence(fields, status, said, capfd):
    with serving(Counting(), rows=2, body=2000) as server:
        found, answer = ask(server, **fields)
        assert (found, said in answer["error"]["message"]) == (status, True), answer
        assert ask(server, prompt="abc", max_tokens=1)[0] == 200  # it goes on


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"PUT /v1/completions HTTP/1.1\r\n\r\n", 501),
        (b"what\r\n\r\n", 400),
        (b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 415),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST /v1/completions HTTP/1.1\r\nContent-Length: " + b"0" * 20 + b"9\r\n\r\n", 413),
    ],
)
def test_what_is_no_request_is_answered_in_json(sent, status):
    with (
        serving(Counting()) as server,
        socket.create_connection(server.server_address[:2], timeout=10) as connection,
    ):
        connection.sendall(sent)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["error"]["code"]) == (status, status)


def test_at_the_end_what_runs_and_waits_is_answered():
    model = Counting()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        with serving(model) as server, connected(server) as idle:
            idle.request("GET", "/health")
            idle.getresponse().read()  # its connection stays open
            model.gate.clear()
            running = pool.submit(ask, server, prompt="abc", max_tokens=3)
            wait_for(model.entered.is_set)
            waiting = pool.submit(ask, server, prompt="abc", max_tokens=3)
            wait_for(lambda: server.batcher.waiting == 1)
            server.ask_to_stop()
            wait_for(lambda: server.batcher.closed)
            with pytest.raises(OSError, match=r"refused|reset"):
                ask(server, prompt="abc", max_tokens=3)
            model.gate.set()
        assert [one.result()[0] for one in (running, waiting)] == [200, 200]


def test_who_went_away_keeps_nobody_waiting():
    """Of a stream that nobody reads, the batch ends early."""
    model = Counting(limit=200_000)
    with serving(model) as server:
        fields = {"prompt": "abc", "max_tokens": 150_000, "stream": True}
        with connected(server) as connection:
            connection.request("POST", "/v1/completions", json.dumps(fields), JSON)
            answer = connection.getresponse()
            answer.read(100)
            answer.close()
        assert ask(server, prompt="abc", max_tokens=1)[0] == 200


def test_an_address_that_is_taken_is_one_sentence():
    with serving(Counting()) as server:
        port = server.server_address[1]
        with pytest.raises(UserError, match=rf"--port={port} cannot be listened at: .*in use"):
            Server("127.0.0.1", port, {}, Bounds())


def test_a_run_that_continues_no_text_is_refused():
    names = {"model": "resnet", "data": "images", "objective": "classification"}
    config = RunConfig(**{group: choices.new(group, name) for group, name in names.items()})
    run = types.SimpleNamespace(path=pathlib.Path("runs/one"), config=lambda: config)
    with pytest.raises(UserError, match=r"one is .*family=resnet .*, which continues no text"):
        Model(run, "one")
