"""An OpenAI-compatible server that can be told to fail: a paid API's faults cannot be had otherwise."""

import base64
import json
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
    """Answers well until `fault` names something else; counts calls and keeps the last one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.fault = ""
        self.calls = 0
        self.headers: dict[str, str] = {}
        self.texts: list[str] = []

    def handle_error(self, *arguments: object) -> None:
        """A caller that has left is no news."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def running() -> Iterator[FaultyUpstream]:
    server = FaultyUpstream()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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
        self.server.calls += 1
        self.server.headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.texts = request["input"]
        fault = self.server.fault
        if fault == "hang":
            time.sleep(3)
        if fault == "reset":
            self.connection.close()
            return
        if fault.startswith("http"):
            self._send(int(fault[4:7]), {"error": {"message": "secret of the upstream"}}, retry_after=fault[8:])
            return
        self._send(200, _answer(request, fault))

    def _send(self, status: int, body: Any, retry_after: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, bytes) else "application/json"
        self.send_response(status)
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
        "null usage": {**answer, "usage": {"prompt_tokens": None, "total_tokens": None}},
    }
    return changed.get(fault, answer)


def _written(numbers: np.ndarray, request: dict[str, Any]) -> Any:
    if request.get("encoding_format") == "base64":
        return base64.b64encode(numbers.astype("<f4").tobytes()).decode()
    return numbers.tolist()
