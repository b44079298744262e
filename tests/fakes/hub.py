"""The part of the Hugging Face hub that fetches a pinned revision: the real one is not reached from tests."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class FakeHub(ThreadingHTTPServer):
    """Serves repositories by (name, commit), but not the files that are `lost`; `asked` has those that were sent."""

    daemon_threads = True

    def __init__(self, repositories: Mapping[tuple[str, str], Mapping[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = repositories
        self.asked: list[str] = []
        self.lost: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def running(repositories: Mapping[tuple[str, str], Mapping[str, bytes]]) -> Iterator[FakeHub]:
    with FakeHub(repositories) as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        for (name, commit), files in self.server.repositories.items():
            if path == f"/api/models/{name}/revision/{commit}":
                siblings = [{"rfilename": file} for file in files]
                return self._send(json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode(), {})
            if path == f"/api/models/{name}/tree/{commit}":
                tree = [_entry(file, data) for file, data in files.items()]
                return self._send(json.dumps(tree).encode(), {})
            file = path.removeprefix(f"/{name}/resolve/{commit}/")
            if file in files and file not in self.server.lost:
                if self.command == "GET":
                    self.server.asked.append(f"{name}/{file}")
                return self._send(files[file], {"ETag": f'"{_digest(files[file])}"', "X-Repo-Commit": commit})
        return self._send(b"", {"X-Error-Code": "EntryNotFound"}, status=404)

    def _send(self, body: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Tests print nothing."""


def _entry(file: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "path": file, "size": len(data), "oid": _digest(data)}


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
