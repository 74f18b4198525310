"""The server of `launch.py serve`: completions over HTTP, as OpenAI's clients ask for them.

Takes models and bounds; a thread a connection reads what is asked (`asked.py`), hands it to the
batcher, and writes what comes (`answers.py`). Standard library only.
"""

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from scaling.errors import UserError
from scaling.serving import answers, tokens
from scaling.serving.asked import Refused, read
from scaling.serving.batching import Batcher, Failed, Ticket
from scaling.serving.model import Model

_DIGITS = 18  # of a length that is read
_PATIENCE = 60.0  # seconds that a client may be silent while it is read or written to


@dataclass(frozen=True)
class Bounds:
    """What is refused beyond."""

    waiting: int = 256  # rows that wait for a batch: 429
    rows: int = 128  # choices of one request: 400
    body: int = 2**20  # bytes of a request: 413
    connections: int = 256  # at once: 503


class Server(ThreadingHTTPServer):
    """Listens as soon as it is made."""

    daemon_threads, block_on_close = False, True
    request_queue_size = 128

    def __init__(self, host: str, port: int, models: Mapping[str, Model], bounds: Bounds):
        """Raises UserError for an address that cannot be listened at."""
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--host={host} --port={port} cannot be listened at: {error}; give another"
            ) from error
        self.models, self.bounds = models, bounds
        self.batcher = Batcher(bounds.waiting)
        self._open, self._lock = set[socket.socket](), threading.Lock()

    @property
    def address(self) -> str:
        """Where it is heard."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def serve_until(self, stop: threading.Event) -> None:
        """Comes back when `stop` is set and all that was let in is answered."""
        listening = threading.Thread(target=self.serve_forever, args=(0.05,), name="listens")
        listening.start()
        try:
            stop.wait()
        finally:
            self.shutdown()
            listening.join()
            self.socket.close()
            self.batcher.close()
            with self._lock:
                for connection in self._open:
                    _deafen(connection)
            self.server_close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, if there are not too many."""
        with self._lock:
            free = len(self._open) < self.bounds.connections
            if free:
                self._open.add(request)
        if free:
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.sendall(_response(503, answers.refusal(Refused("too many connections", 503))))
        self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        """Closes a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; others are told on stderr."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection, request after request."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "scaling", ""
    timeout, disable_nagle_algorithm = _PATIENCE, True
    server: Server

    def do_GET(self) -> None:
        """/health, /v1/models, /v1/models/<name> and /tokenizer_info."""
        server, path = self.server, self.path.partition("?")[0].rstrip("/")
        if path == "/health":
            batcher = server.batcher
            self._say(200, {"status": "ok", "waiting": batcher.waiting, "running": batcher.running})
        elif path == "/v1/models":
            self._say(200, answers.models(server.models))
        elif path == "/tokenizer_info":
            self._tell(lambda: tokens.about(server.models))
        elif (name := path.removeprefix("/v1/models/")) in server.models:
            self._say(200, answers.model_of(server.models[name]))
        else:
            self._refuse(_nothing_at(self.path))

    def do_POST(self) -> None:
        """/v1/completions, /tokenize and /detokenize."""
        path = self.path.partition("?")[0].rstrip("/")
        if path in tokens.PATHS:
            self._tell(lambda: tokens.answer(path, self._body(), self.server.models))
            return
        try:
            if path != "/v1/completions":
                raise _nothing_at(self.path)
            body = self._body()
            asked = read(body, self.server.models, self.server.bounds.rows)
            ticket = self.server.batcher.admit(asked)
        except Refused as error:
            self._refuse(error)
            return
        try:
            if asked.stream:
                self._stream(ticket)
            else:
                self._say(200, answers.answer(asked, iter(ticket)))
        except Failed as error:
            self._refuse(Refused(str(error), 500))
        except OSError:
            ticket.gone = self.close_connection = True

    def _tell(self, answer: Callable[[], dict[str, Any]]) -> None:
        """What is known at once."""
        try:
            found = answer()
        except Refused as error:
            self._refuse(error)
            return
        self._say(200, found)

    def _body(self) -> bytes:
        """Raises Refused."""
        kind = self.headers.get_content_type()
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise Refused("the request says no Content-Length", 411)
        if len(length) > _DIGITS or int(length) > self.server.bounds.body:
            raise Refused(
                f"the body has {length[:_DIGITS]} bytes, and {self.server.bounds.body} are read",
                413,
            )
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise Refused("the body ends too early")
        # What a page of a browser may send anywhere unasked is not of this kind.
        if kind != "application/json":
            raise Refused(f"Content-Type is {kind}; send application/json", 415)
        return body

    def _stream(self, ticket: Ticket) -> None:
        """Server-sent events, the last of them [DONE]; the connection ends with them."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Cache-Control", "no-cache")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for part in answers.parts(ticket.asked, iter(ticket)):
                self._event(json.dumps(part, ensure_ascii=False))
        except Failed as error:
            self._event(json.dumps(answers.refusal(Refused(str(error), 500))))
        self._event("[DONE]")

    def _event(self, text: str) -> None:
        self.wfile.write(f"data: {text}\n\n".encode(errors="replace"))

    def _say(self, status: int, value: Any) -> None:
        self.wfile.write(_response(status, value, self.close_connection))

    def _refuse(self, error: Refused) -> None:
        """The rest of the request is not read."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self._say(error.status, answers.refusal(error))

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Of requests that are none, and methods that are not known."""
        del explain
        self._refuse(Refused(message or HTTPStatus(code).phrase, code))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _response(status: int, value: Any, close: bool = True) -> bytes:
    body = json.dumps(value, ensure_ascii=False).encode(errors="replace")
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        "Content-Type: application/json; charset=utf-8",
        f"Content-Length: {len(body)}",
        *(["Retry-After: 1"] if status in (429, 503) else []),
        *(["Connection: close"] if close else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _nothing_at(path: str) -> Refused:
    return Refused(
        f"there is nothing at {path}; /v1/completions, /v1/models, /tokenize, /detokenize, "
        "/tokenizer_info and /health are served",
        404,
    )


def _deafen(connection: socket.socket) -> None:
    """Nothing more is read: who waits for a request ends, who writes an answer goes on."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RD)
