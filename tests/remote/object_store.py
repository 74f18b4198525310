"""An object store on a loopback port that speaks as much of Google's JSON API as gcsfs and
tensorstore ask for.

It has what object stores have, and lacks what they lack: an object appears whole or not at all, is
replaced whole, cannot be appended to or renamed; there are no directories, only names. Kept in
memory.
"""

import email.parser
import http.server
import json
import re
import sys
import threading
import urllib.parse
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Store:
    """Objects by (bucket, name): contents and generation; and how often each was written."""

    objects: dict[tuple[str, str], tuple[bytes, int]] = field(default_factory=dict)
    uploads: dict[str, tuple[str, str, bytes]] = field(default_factory=dict)  # resumable
    generation: int = 1000
    lock: threading.RLock = field(default_factory=threading.RLock)

    def put(self, bucket: str, name: str, data: bytes, match: str | None = None) -> bool:
        """False when `match` is not the object's generation ("0": it must not be there)."""
        with self.lock:
            there = self.objects.get((bucket, name), (b"", 0))[1]
            if match is not None and int(match) != there:
                return False
            self.generation += 1
            self.objects[bucket, name] = (data, self.generation)
            return True

    def about(self, bucket: str, name: str) -> dict[str, Any]:
        data, generation = self.objects[bucket, name]
        time = "2026-01-01T00:00:00.000Z"
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{generation}",
            "bucket": bucket,
            "name": name,
            "size": str(len(data)),
            "generation": str(generation),
            "metageneration": "1",
            "storageClass": "STANDARD",
            "contentType": "application/octet-stream",
            "timeCreated": time,
            "updated": time,
        }

    def list(self, bucket: str, prefix: str, delimiter: str, least: str, end: str) -> dict:
        items, prefixes = [], set()
        with self.lock:
            for where, name in sorted(self.objects):
                if where != bucket or not name.startswith(prefix) or name < least:
                    continue
                if end and name >= end:
                    continue
                rest = name[len(prefix) :]
                if delimiter and delimiter in rest:
                    prefixes.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    items.append(self.about(bucket, name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(prefixes)}


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    store: Store

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, code: int, body: bytes | dict = b"", **headers: str) -> None:
        if isinstance(body, dict):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json; charset=UTF-8"
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self) -> None:
        self.answer(404, {"error": {"code": 404, "message": "Not Found"}})

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    @property
    def query(self) -> dict[str, str]:
        parts = urllib.parse.urlsplit(self.path).query
        return dict(urllib.parse.parse_qsl(parts, keep_blank_values=True))

    @property
    def names(self) -> list[str]:
        """The parts of the path, unquoted."""
        return [urllib.parse.unquote(p) for p in urllib.parse.urlsplit(self.path).path.split("/")]

    def place(self) -> tuple[str, str | None]:
        """(bucket, object) of .../b/BUCKET/o/OBJECT."""
        names = self.names
        at = names.index("b")
        bucket = names[at + 1]
        if len(names) > at + 3:
            return bucket, "/".join(names[at + 3 :])
        return bucket, None

    def do_GET(self) -> None:
        """A bucket, a list, an object's facts, or its bytes."""
        bucket, name = self.place()
        query = self.query
        if name is None:
            if self.names[-1] == "o":
                query = {"prefix": "", "delimiter": "", "startOffset": "", "endOffset": ""} | query
                fields = ("prefix", "delimiter", "startOffset", "endOffset")
                return self.answer(200, self.store.list(bucket, *(query[f] for f in fields)))
            return self.answer(200, {"kind": "storage#bucket", "name": bucket, "id": bucket})
        with self.store.lock:
            if (bucket, name) not in self.store.objects:
                return self.missing()
            about = self.store.about(bucket, name)
            data, generation = self.store.objects[bucket, name]
        if query.get("ifGenerationNotMatch") == str(generation):
            return self.answer(304)
        if query.get("ifGenerationMatch") not in (None, str(generation)):
            return self.answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
        if query.get("alt") != "media":
            return self.answer(200, about)
        facts = {
            "x_goog_generation": str(generation),
            "x_goog_stored_content_length": str(len(data)),
        }
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if asked is None:
            return self.answer(200, data, **facts)
        first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
        last = min(len(data) - 1, int(asked[2]) if asked[1] and asked[2] else len(data) - 1)
        if first >= len(data):
            return self.answer(416)
        facts["Content_Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.answer(206, data[first : last + 1], **facts)

    def do_POST(self) -> None:
        """An upload, a copy, or a batch of deletions."""
        names, query, body = self.names, self.query, self.body()
        if "batch" in names:
            return self.batch(body)
        if "upload_id" in query:
            return self.piece(body)
        if "rewriteTo" in names or "copyTo" in names:
            at = names.index("rewriteTo" if "rewriteTo" in names else "copyTo")
            o = names.index("o")
            source = (names[names.index("b") + 1], "/".join(names[o + 1 : at]))
            target = (names[at + 2], "/".join(names[at + 4 :]))
            if source not in self.store.objects:
                return self.missing()
            self.store.put(*target, self.store.objects[source][0])
            about = self.store.about(*target)
            return self.answer(
                200, {"done": True, "resource": about} if "rewriteTo" in names else about
            )
        bucket, _ = self.place()
        if query["uploadType"] == "resumable":
            name = query.get("name") or json.loads(body)["name"]
            id = f"u{len(self.store.uploads)}"
            self.store.uploads[id] = (bucket, name, b"")
            host = self.headers["Host"]
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={id}"
            return self.answer(200, Location=f"http://{host}{path}")
        if query["uploadType"] == "multipart":
            about, body = two_parts(self.headers["Content-Type"], body)
            name = about["name"]
        else:
            name = query["name"]
        if not self.store.put(bucket, name, body, query.get("ifGenerationMatch")):
            return self.answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
        return self.answer(200, self.store.about(bucket, name))

    def do_PUT(self) -> None:
        """A piece of an upload."""
        self.piece(self.body())

    def piece(self, body: bytes) -> None:
        """Of a resumable upload; the object appears with the last."""
        id = self.query["upload_id"]
        bucket, name, before = self.store.uploads[id]
        whole = before + body
        self.store.uploads[id] = (bucket, name, whole)
        total = (self.headers.get("Content-Range") or "/*").rpartition("/")[2]
        if total == "*" or len(whole) < int(total):
            return self.answer(308, Range=f"bytes=0-{len(whole) - 1}")
        self.store.put(bucket, name, whole)
        return self.answer(200, self.store.about(bucket, name))

    def do_DELETE(self) -> None:
        """An object, or an upload that was given up."""
        if "upload_id" in self.query:
            self.store.uploads.pop(self.query["upload_id"], None)
            return self.answer(499)
        bucket, name = self.place()
        there = self.store.objects.pop((bucket, name or ""), None)
        return self.answer(204) if there else self.missing()

    def batch(self, body: bytes) -> None:
        """Deletions in one request; each answered in its part."""
        parts = []
        for number, match in enumerate(re.finditer(rb"DELETE (\S+) HTTP", body), start=1):
            self.path = match[1].decode()
            bucket, name = self.place()
            code = 204 if self.store.objects.pop((bucket, name or ""), None) else 404
            parts.append(
                f"--b\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
                f"HTTP/1.1 {code} x\r\nContent-Length: 0\r\n\r\n\r\n"
            )
        text = "".join(parts) + "--b--\r\n"
        self.answer(200, text.encode(), Content_Type="multipart/mixed; boundary=b")


def two_parts(kind: str, body: bytes) -> tuple[dict, bytes]:
    """Facts and contents of a multipart upload."""
    boundary = email.parser.HeaderParser().parsestr(f"Content-Type: {kind}").get_param("boundary")
    assert isinstance(boundary, str)
    _, facts, contents, _ = re.split(rb"\r?\n?--" + re.escape(boundary.encode()), body)
    split = lambda part: re.split(rb"\r?\n\r?\n", part, maxsplit=1)[1]  # noqa: E731
    return json.loads(split(facts)), split(contents)


class Server(http.server.ThreadingHTTPServer):
    """A client that is killed is no reason to say anything."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Only a broken connection is one."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*_)


def serve() -> tuple[Server, Store]:
    """A running store on a free loopback port."""
    store = Store()
    handler = type("OfStore", (Handler,), {"store": store})
    server = Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, store
