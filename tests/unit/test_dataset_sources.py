"""Where data sets come from, what is kept of them, and when they are read again."""

import asyncio
import functools
import gzip
import hashlib
import http.server
import importlib.util
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from embedscale.core.errors import DatasetForbidden, DatasetInvalid, DatasetNotFound, EmbedscaleError
from embedscale.evaluator import builtin
from embedscale.evaluator.datasets import building
from embedscale.evaluator.datasets.cloud import Buckets
from embedscale.evaluator.datasets.disk_dataset import DiskDataset
from embedscale.evaluator.datasets.intake import Intake
from embedscale.evaluator.datasets.location import locate
from embedscale.evaluator.sources import DatasetSources
from tests.dataset_files import content, lines, qrels, read, sources, take_in

ROWS = [{"query": f"Question {number}?", "positives": [f"Answer {number}."]} for number in range(5)]
OLD = time.time() - 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return lines(tmp_path / "set.jsonl", ROWS)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URIs of the sets that were read, in order."""
    found: list[str] = []
    run = building._Builder.run

    def noted(self: building._Builder, uri: str, **options: bool) -> object:
        found.append(uri)
        return run(self, uri, **options)

    monkeypatch.setattr(building._Builder, "run", noted)
    return found


async def test_kept_sets_are_opened_away_from_the_event_loop(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = sources(tmp_path)
    uri = (await kept.take_in(str(file), lenient=False)).dataset.card.uri
    opening: list[threading.Thread] = []
    opened = kept.store.open

    def noted(*arguments: str) -> DiskDataset:
        opening.append(threading.current_thread())
        return opened(*arguments)

    monkeypatch.setattr(kept.store, "open", noted)
    await kept.load(uri)
    await kept.take_in(uri, lenient=False)
    assert len(opening) == 2
    assert threading.current_thread() not in opening


def known(kept: DatasetSources) -> list[str]:
    """URIs of the sets that are listed."""
    return [card.uri for card in kept.cards()]


def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files count as written long ago: no call sets the time of their last change."""
    monkeypatch.setattr("embedscale.evaluator.datasets.local_files._SETTLED_SECONDS", 0.0)


def test_an_imported_set_is_found_by_its_digest_and_listed(tmp_path: Path, file: Path) -> None:
    card = take_in(tmp_path, file).dataset.card
    assert (card.uri, card.source) == (f"dataset:{card.digest}", str(file))
    assert known(sources(tmp_path)) == [*builtin.known(), card.uri]
    file.unlink()
    assert len(content(read(tmp_path, card.uri))[0]) == 5
    assert read(tmp_path, card.uri).card == card


@pytest.mark.parametrize("name", ["0" * 64, "", "../seen", "0" * 63, "A" * 64])
def test_an_unknown_digest_is_not_found(tmp_path: Path, file: Path, name: str) -> None:
    take_in(tmp_path, file)
    with pytest.raises(DatasetNotFound, match="no imported data set"):
        read(tmp_path, f"dataset:{name}")


def test_an_unchanged_file_is_read_once(
    tmp_path: Path, file: Path, built: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    digests = {read(tmp_path, file).card.digest for _ in range(3)}
    assert (len(digests), len(built)) == (1, 1)
    take_in(tmp_path, file)
    assert len(built) == 2


def test_a_change_is_noticed_whatever_its_size_and_time(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    os.utime(file, (OLD, OLD))
    before = read(tmp_path, file).card.digest
    file.write_text(file.read_text().replace("Answer 3", "Answer 7"))
    os.utime(file, (OLD, OLD))
    assert read(tmp_path, file).card.digest != before


def test_a_file_that_was_just_written_is_read_each_time(tmp_path: Path, file: Path, built: list[str]) -> None:
    for number in range(5):
        file.write_text(json.dumps({"query": f"{number}?", "positives": ["b"]}) + "\n")
        assert set(content(read(tmp_path, file))[0].values()) == {f"{number}?"}
    assert len(built) == 5


def test_a_file_added_to_a_folder_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    folder = tmp_path / "set"
    lines(folder / "corpus.jsonl", [{"_id": "d", "text": "b"}])
    lines(folder / "queries.jsonl", [{"_id": "q", "text": "a?"}])
    qrels(folder / "qrels" / "test.tsv", [("q", "d", 1)])
    assert read(tmp_path, folder).card.title == ""
    (folder / "README.md").write_text("---\npretty_name: Things\n---\n")
    assert read(tmp_path, folder).card.title == "Things"


def test_lenient_and_strict_imports_of_one_file_are_apart(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(monkeypatch)
    file.write_text(file.read_text() + "{\n")
    assert take_in(tmp_path, file, lenient=True).dataset.card.skipped == {"bad_json": 1}
    with pytest.raises(DatasetInvalid, match=r"set\.jsonl:6: not JSON"):
        read(tmp_path, file)


def test_the_least_recently_used_sets_are_dropped(tmp_path: Path) -> None:
    kept = sources(tmp_path, kept_datasets=2)
    digests = []
    for number in range(3):
        path = lines(tmp_path / f"{number}.jsonl", [{"query": f"{number}?", "positives": ["b"]}])
        digests.append(asyncio.run(kept.take_in(str(path), lenient=False)).dataset.card.digest)
        time.sleep(0.02)
        asyncio.run(kept.load(f"dataset:{digests[0]}"))
        time.sleep(0.02)
        known(kept)
    assert {uri.removeprefix("dataset:") for uri in known(kept) if uri.startswith("dataset:")} == {
        digests[0],
        digests[2],
    }


def test_a_set_that_is_dropped_is_read_to_its_end_by_who_has_it(tmp_path: Path, file: Path) -> None:
    kept = sources(tmp_path, kept_datasets=1)
    dataset = asyncio.run(kept.load(str(file)))
    asyncio.run(kept.take_in(str(lines(tmp_path / "other.jsonl", ROWS[:1])), lenient=False))
    with pytest.raises(DatasetNotFound):
        asyncio.run(kept.load(f"dataset:{dataset.card.digest}"))
    documents, queries = dict(dataset.documents()), list(dataset.queries())
    assert len(documents) == len(queries) == 5
    assert dataset.texts(list(documents)) == list(documents.values())
    assert [list(grades.values()) for grades in dataset.judgements([key for key, _ in queries])] == [[1]] * 5


def _imported(folder: Path, file: Path) -> str:
    return take_in(folder, file).dataset.card.digest


def test_processes_that_import_the_same_set_at_once_all_have_it(tmp_path: Path) -> None:
    rows = [{"query": f"Question {n}?", "positives": [f"Answer {n}."]} for n in range(3000)]
    file = lines(tmp_path / "set.jsonl", rows)
    with ProcessPoolExecutor(4) as pool:
        digests = set(pool.map(functools.partial(_imported, tmp_path), [file] * 8))
    assert len(digests) == 1
    assert [path.name for path in (tmp_path / ".kept" / "sets").iterdir()] == [f"{digests.pop()}.sqlite"]
    assert list((tmp_path / ".kept" / "drafts").iterdir()) == []


def test_a_refused_set_leaves_nothing(tmp_path: Path, file: Path) -> None:
    file.write_text("{\n")
    with pytest.raises(DatasetInvalid):
        read(tmp_path, f"{file}#split=x")
    assert known(sources(tmp_path)) == builtin.known()
    assert list((tmp_path / ".kept" / "drafts").iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    drafts = tmp_path / ".kept" / "drafts"
    drafts.mkdir(parents=True)
    for name, time_ in (("old", OLD - 10**6), ("new", OLD)):
        (drafts / name).write_bytes(b"")
        os.utime(drafts / name, (time_, time_))
    sources(tmp_path)
    assert [path.name for path in drafts.iterdir()] == ["new"]


async def test_an_import_that_nobody_waits_for_stops(tmp_path: Path) -> None:
    rows = ({"query": f"Question {n}?", "positives": [f"Answer {n}."]} for n in range(200_000))
    file = lines(tmp_path / "set.jsonl", rows)
    task = asyncio.create_task(sources(tmp_path).take_in(str(file), lenient=False))
    drafts = tmp_path / ".kept" / "drafts"
    while not drafts.exists() or not list(drafts.iterdir()):  # noqa: ASYNC110 - a thread makes it
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    stopped = time.monotonic()
    while list(drafts.iterdir()):  # noqa: ASYNC110 - a thread removes it
        await asyncio.sleep(0.01)
    assert time.monotonic() - stopped < 1.0
    assert known(sources(tmp_path)) == builtin.known()


def test_a_set_beyond_the_limit_is_refused_packed_or_not(tmp_path: Path) -> None:
    file = lines(tmp_path / "set.jsonl", [{"query": "a?", "positives": ["b" * 100_000]}])
    small = tmp_path / "set.jsonl.gz"
    small.write_bytes(gzip.compress(file.read_bytes()))
    assert small.stat().st_size < 1000
    for path in (file, small):
        with pytest.raises(DatasetInvalid, match="larger than the limit of 50000 bytes"):
            asyncio.run(sources(tmp_path, dataset_max_bytes=50_000).load(str(path)))
        asyncio.run(sources(tmp_path, dataset_max_bytes=file.stat().st_size).load(str(path)))


def test_names_that_are_no_path_are_not_found(tmp_path: Path) -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(DatasetNotFound):
            read(tmp_path, name)


def test_a_file_whose_name_is_not_utf_8_is_read(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    try:
        lines(tmp_path / "set" / os.fsdecode(b"caf\xe9.jsonl"), [*ROWS, {"query": " "}])
    except OSError:
        pytest.skip("this file system has no such names")
    imported = take_in(tmp_path, tmp_path / "set", lenient=True)
    assert imported.dataset.card.query_count == len(ROWS)
    assert imported.faults[0].place == "caf?.jsonl:6 query"


def test_links_lead_out_of_no_root(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        lines(folder / "corpus.jsonl", [{"_id": "d", "text": "b"}])
        lines(folder / "queries.jsonl", [{"_id": "q", "text": "a?"}])
    qrels(inside / "qrels" / "test.tsv", [("q", "d", 1)])
    (inside / "corpus.jsonl").unlink()
    (inside / "corpus.jsonl").symlink_to(outside / "corpus.jsonl")
    with pytest.raises(DatasetInvalid):
        asyncio.run(sources(tmp_path, dataset_roots=[inside]).load(str(inside)))
    asyncio.run(sources(tmp_path).load(str(inside)))


class Site(http.server.SimpleHTTPRequestHandler):
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
    tmp_path: Path, file: Path, site: Address, built: list[str]
) -> None:
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
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    return folder


def test_a_set_of_the_hub_is_read_from_the_clients_cache(tmp_path: Path, hub_cache: Path, built: list[str]) -> None:
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
def test_what_the_hub_does_not_have_says_so(tmp_path: Path, hub_cache: Path, uri: str, said: str) -> None:
    with pytest.raises(DatasetNotFound, match=said):
        asyncio.run(sources(tmp_path, dataset_hosts=["*"]).load(uri))


@pytest.mark.parametrize(
    "uri",
    ["hf://datasets/org/things", "s3://bucket/x", "http://localhost:1/x", "ftp://127.0.0.1/x", "a\0b", "http://[::1/x"],
)
def test_what_is_not_allowed_or_not_known_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(EmbedscaleError) as caught:
        read(tmp_path, uri)
    assert isinstance(caught.value, DatasetForbidden | DatasetNotFound)


def test_an_import_stops_while_it_sorts(tmp_path: Path) -> None:
    stop, filled = threading.Event(), threading.Event()

    def fill(intake: Intake) -> None:
        for number in range(150_000):
            key = f"{number * 7919 % 150_001:06d}"
            intake.document(key, f"text {key}", "")
            intake.query(key, f"query {key}", "")
            intake.judgement(key, key, 1, "")
        filled.set()

    def imported() -> float:
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            building.build(tmp_path / "set", "uri", fill, lenient=False, stop=stop)
        return time.monotonic()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(imported)
        filled.wait()
        time.sleep(0.1)
        stop.set()
        stopped = time.monotonic()
        assert ended.result() - stopped < 0.5
    assert not (tmp_path / "set.staged").exists()
