"""Data sets from websites, buckets and the hub: checked, and brought here again only when they changed."""

import asyncio
import gzip
import hashlib
import http.server
import importlib.util
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound
from embedscale.evaluator.datasets.cloud import Buckets
from embedscale.evaluator.datasets.location import locate
from tests.dataset_files import content, lines, qrels, read, sources
from tests.unit.test_dataset_sources import ROWS, noted_builds


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return lines(tmp_path / "set.jsonl", ROWS)


class Site(http.server.BaseHTTPRequestHandler):
    """Files of a folder; `/packed/` sends them compressed, `/tagged/` knows their entity tag, `/to/` redirects."""

    folder: Path
    requests: list[str]

    def do_GET(self) -> None:
        self.requests.append(self.path)
        kind, _, name = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("Location", name)
            self.end_headers()
            return
        body = (self.folder / name).read_bytes()
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        same = kind == "tagged" and self.headers.get("If-None-Match") == tag
        body = gzip.compress(body) if kind == "packed" else body
        self.send_response(304 if same else 200)
        if kind == "packed":
            self.send_header("Content-Encoding", "gzip")
        if kind == "tagged":
            self.send_header("ETag", tag)
        self.send_header("Content-Length", "0" if same else str(len(body)))
        self.end_headers()
        self.wfile.write(b"" if same else body)

    def log_message(self, *arguments: object) -> None:
        pass


Address = Callable[[str], str]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Address]:
    Site.folder, Site.requests = tmp_path, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda path: f"http://127.0.0.1:{server.server_port}/{path}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("kind", ["plain", "packed", "tagged"])
def test_a_url_is_fetched(tmp_path: Path, file: Path, site: Address, kind: str) -> None:
    assert read(tmp_path, site(f"{kind}/set.jsonl")).card.digest == read(tmp_path, file).card.digest


def test_a_checksum_in_the_uri_is_of_the_unpacked_transfer(tmp_path: Path, file: Path, site: Address) -> None:
    right, wrong = hashlib.sha256(file.read_bytes()).hexdigest(), "0" * 64
    for kind in ("plain", "packed"):
        read(tmp_path, site(f"{kind}/set.jsonl#sha256={right.upper()}"))
        with pytest.raises(DatasetInvalid, match=f"the file's SHA-256 is {right}"):
            read(tmp_path, site(f"{kind}/set.jsonl#sha256={wrong}"))
    read(tmp_path, f"{file}#sha256={right}")
    with pytest.raises(DatasetInvalid, match="SHA-256"):
        read(tmp_path, f"{file}#sha256={wrong}")


def test_a_url_is_read_again_when_its_entity_tag_changes(
    tmp_path: Path, file: Path, site: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = noted_builds(monkeypatch)
    before = read(tmp_path, site("tagged/set.jsonl")).card.digest
    assert read(tmp_path, site("tagged/set.jsonl")).card.digest == before
    assert len(built) == 1
    file.write_text(file.read_text().replace("Answer 3", "Answer 7"))
    assert read(tmp_path, site("tagged/set.jsonl")).card.digest != before
    assert len(built) == 2


def test_a_redirect_is_followed_where_its_target_is_allowed(tmp_path: Path, file: Path, site: Address) -> None:
    assert read(tmp_path, site("to//plain/set.jsonl")).card.query_count == 5
    target = site("plain/set.jsonl").replace("127.0.0.1", "localhost")
    with pytest.raises(DatasetForbidden, match="localhost is not a host"):
        read(tmp_path, site(f"to/{target}"))
    assert Site.requests[-1].startswith("/to/")
    with pytest.raises(DatasetNotFound, match="redirects more than 5 times"):
        read(tmp_path, site("to//to//to//to//to//to//to//plain/set.jsonl"))
    with pytest.raises(DatasetNotFound):
        read(tmp_path, site("to/file:///etc/hostname"))


def test_a_download_beyond_the_limit_is_refused(tmp_path: Path, file: Path, site: Address) -> None:
    for kind in ("plain", "packed"):
        with pytest.raises(DatasetInvalid, match="larger than the limit of 100 bytes"):
            asyncio.run(sources(tmp_path, dataset_max_bytes=100).load(site(f"{kind}/set.jsonl")))


def fetched(uri: str, known: str, draft: Path, limit: int = 10**6) -> tuple[list[str], str] | None:
    found = Buckets(["bucket"], limit).fetch(locate(uri), known, draft)
    if found is None:
        return None
    files = [draft] if draft.is_file() else [path for path in draft.rglob("*") if path.is_file()]
    return sorted(path.relative_to(draft).as_posix() for path in files), found.state


def test_a_bucket_is_brought_here_and_only_when_it_changed(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/set/corpus.jsonl", b"{}")
    memory.pipe("/bucket/set/qrels/test.tsv", b"x")
    files, state = fetched("memory://bucket/set", "", tmp_path / "one")
    assert files == ["corpus.jsonl", "qrels/test.tsv"]
    assert fetched("memory://bucket/set", state, tmp_path / "two") is None
    memory.pipe("/bucket/set/corpus.jsonl", b"[]")
    assert fetched("memory://bucket/set", state, tmp_path / "three")[1] != state
    assert fetched("memory://bucket/set/corpus.jsonl", "", tmp_path / "four")[0] == ["."]
    assert (tmp_path / "four").read_bytes() == b"[]"
    with pytest.raises(DatasetInvalid, match="larger than the limit of 2 bytes"):
        fetched("memory://bucket/set", "", tmp_path / "five", 2)
    memory.store["/bucket/bad/../../x.jsonl"] = memory.store["/bucket/set/corpus.jsonl"]
    with pytest.raises(DatasetInvalid, match="leads out of its folder"):
        fetched("memory://bucket/bad", "", tmp_path / "deep" / "folder")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("x")] == []
    with pytest.raises(DatasetNotFound, match="does not exist"):
        fetched("memory://bucket/none", "", tmp_path / "six")
    with pytest.raises(DatasetForbidden):
        fetched("memory://other/set", "", tmp_path / "seven")
    memory.rm("/bucket", recursive=True)


class Listing(MemoryFileSystem):
    """Keeps what it once said of a file, as those of clouds do with their listings."""

    protocol = "listing"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("listing://", "memory://")))

    def info(self, path: str, **options: object) -> object:
        if path not in self.dircache:
            self.dircache[path] = super().info(path, **options)
        return self.dircache[path]

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()


def test_a_change_in_a_bucket_is_seen_behind_a_listing_that_is_kept(tmp_path: Path) -> None:
    fsspec.register_implementation("listing", Listing, clobber=True)
    system = fsspec.filesystem("listing")
    system.pipe("/bucket/kept/set.jsonl", b"{}")
    _, state = fetched("listing://bucket/kept", "", tmp_path / "one")
    system.pipe("/bucket/kept/set.jsonl", b"[1]")
    assert fetched("listing://bucket/kept", state, tmp_path / "two")[1] != state
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


@pytest.mark.parametrize(("scheme", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs")])
def test_a_bucket_whose_package_is_missing_names_the_extra(tmp_path: Path, scheme: str, package: str) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(DatasetNotFound, match=r"embedscale\[cloud\]"):
        asyncio.run(sources(tmp_path, dataset_hosts=["*"]).load(f"{scheme}://bucket/set"))


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache as the hub's own client leaves it: blobs, and snapshots that link to them."""
    folder = tmp_path / "hub" / "datasets--org--things"
    snapshot = folder / "snapshots" / COMMIT
    lines(tmp_path / "made" / "corpus.jsonl", [{"_id": "d", "text": "b"}])
    lines(tmp_path / "made" / "queries.jsonl", [{"_id": "q", "text": "a?"}])
    qrels(tmp_path / "made" / "qrels" / "test.tsv", [("q", "d", 1)])
    for made in [path for path in (tmp_path / "made").rglob("*") if path.is_file()]:
        blob = folder / "blobs" / hashlib.sha256(made.read_bytes()).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(made.read_bytes())
        link = snapshot / made.relative_to(tmp_path / "made")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("hub_cache")
def test_a_set_of_the_hub_is_read_from_the_clients_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = noted_builds(monkeypatch)
    hub = sources(tmp_path, dataset_hosts=["huggingface.co"])
    for uri in ("hf://datasets/org/things", f"hf://datasets/org/things@{COMMIT}"):
        for _ in range(2):
            assert content(asyncio.run(hub.load(uri))) == ({"q": "a?"}, {"d": "b"}, {"q": {"d": 1}})
    assert len(built) == 2


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("hf://datasets/org/nothing", "is not in the cache of this machine"),
        ("hf://datasets/org/things@other", "is not in the cache of this machine"),
        ("hf://models/org/things", "must be like hf://datasets/ORG/NAME@REVISION"),
    ],
)
@pytest.mark.usefixtures("hub_cache")
def test_what_the_hub_does_not_have_says_so(tmp_path: Path, uri: str, said: str) -> None:
    with pytest.raises(DatasetNotFound, match=said):
        asyncio.run(sources(tmp_path, dataset_hosts=["*"]).load(uri))


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("hf://datasets/org/things", DatasetForbidden),
        ("s3://bucket/x", DatasetForbidden),
        ("http://localhost:1/x", DatasetForbidden),
        ("ftp://127.0.0.1/x", DatasetNotFound),
        ("http://[::1/x", DatasetNotFound),
    ],
)
def test_what_is_not_allowed_or_not_known_is_refused(tmp_path: Path, uri: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(tmp_path, uri)
