"""An OpenAI-compatible server that can be told to fail: a paid API's faults cannot be had otherwise."""

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DIMENSIONS = 8


def vector(text: str) -> np.ndarray:
    """A unit vector that only depends on the text."""
    numbers = np.random.default_rng(list(text.encode())).normal(size=DIMENSIONS)
    return (numbers / np.linalg.norm(numbers)).astype("<f4")


class FaultyUpstream(ThreadingHTTPServer):
    """Answers well until `fault`, or the next of `faults`, names something else; keeps what it was asked.

    A call that has one of `refused_texts` is refused with 400, and one of more than `most_texts` with 413.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault = ""
        self.faults: list[str] = []
        self.refused_texts: set[str] = set()
        self.most_texts = 10**6
        self.seconds = 0.0
        self.answer_headers: dict[str, str] = {}
        self.asked: list[list[str]] = []
        self.headers: dict[str, str] = {}
        self.path = ""

    @property
    def calls(self) -> int:
        return len(self.asked)

    def handle_error(self, *arguments: object) -> None:
        """A caller that has left is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def running() -> Iterator[FaultyUpstream]:
    server = FaultyUpstream()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FaultyUpstream
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        server.asked.append(request["input"])
        server.headers = {name.lower(): value for name, value in self.headers.items()}
        server.path = self.path
        fault = server.faults.pop(0) if server.faults else server.fault
        time.sleep(server.seconds)
        if fault == "hang":
            time.sleep(3)
        if fault == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if server.refused_texts & set(request["input"]):
            fault = "http400"
        if len(request["input"]) > server.most_texts:
            fault = "http413"
        if fault.startswith("http"):
            self._send(int(fault[4:7]), {"error": {"message": "secret of the upstream"}}, retry_after=fault[8:])
            return
        if fault in ("half", "slow"):
            self._dribble(json.dumps(_answer(request, "")).encode(), fault)
            return
        self._send(200, _answer(request, fault))

    def _dribble(self, content: bytes, fault: str) -> None:
        """Send half of an answer and close, or byte after byte, slowly."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.close_connection = True
        if fault == "half":
            self.wfile.write(content[: len(content) // 2])
            return
        for byte in content[:30]:
            self.wfile.write(bytes([byte]))
            time.sleep(0.1)

    def _send(self, status: int, body: Any, retry_after: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if content.startswith(b"<") else "application/json"
        self.send_response(status)
        for name, value in self.server.answer_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.end_headers()
        self.wfile.write(content)


def _answer(request: dict[str, Any], fault: str) -> Any:
    rows = [
        {"object": "embedding", "index": index, "embedding": _written(vector(text), request)}
        for index, text in enumerate(request["input"])
    ]
    usage = {"prompt_tokens": len(rows), "total_tokens": len(rows)}
    answer = {"object": "list", "model": request["model"], "data": rows, "usage": usage}
    floats = [{**row, "embedding": vector(text).tolist()} for row, text in zip(rows, request["input"], strict=True)]
    changed = {
        "invalid json": b'{"object": "list", "data": [',
        "other model": {**answer, "model": "another-model"},
        "float16": {
            **answer,
            "data": [{**row, "embedding": _half(text)} for row, text in zip(rows, request["input"], strict=True)],
        },
        "long": {**answer, "data": [{**row, "embedding": _written(2 * vector("x"), request)} for row in rows]},
        "html": b"<html>login</html>",
        "null": None,
        "string": "hello",
        "list": [],
        "no data": {"object": "list"},
        "null row": {**answer, "data": [None] * len(rows)},
        "missing row": {**answer, "data": rows[:-1]},
        "same index": {**answer, "data": [{**row, "index": 0} for row in rows]},
        "null index": {**answer, "data": [{**row, "index": None} for row in rows]},
        "reversed": {**answer, "data": rows[::-1]},
        "floats": {**answer, "data": floats},
        "bad base64": {**answer, "data": [{**row, "embedding": "abcde"} for row in rows]},
        "short vector": {**answer, "data": [{**row, "embedding": [0.5, 0.5]} for row in rows]},
        "nan": {**answer, "data": [{**row, "embedding": _written(vector("x") * np.nan, request)} for row in rows]},
        "no usage": {**answer, "usage": None},
        "endless usage": {**answer, "usage": {"prompt_tokens": 1, "total_tokens": float("inf")}},
        "huge number": {**answer, "data": [{**row, "embedding": [10**400] * DIMENSIONS} for row in rows]},
        "deep json": b"[" * 100_000,
        "null usage": {**answer, "usage": {"prompt_tokens": None, "total_tokens": None}},
    }
    return changed.get(fault, answer)


def _half(text: str) -> str:
    return base64.b64encode(vector(text).astype("<f2").tobytes()).decode()


def _written(numbers: np.ndarray, request: dict[str, Any]) -> Any:
    if request.get("encoding_format") == "base64":
        return base64.b64encode(numbers.astype("<f4").tobytes()).decode()
    return numbers.tolist()
