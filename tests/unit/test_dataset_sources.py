"""Which data sets are kept, when they are read again, and what is left of an import that fails or stops."""

import asyncio
import functools
import gzip
import json
import os
import sqlite3
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from embedscale.core.errors import DatasetInvalid, DatasetNotFound
from embedscale.evaluator import builtin
from embedscale.evaluator.datasets import building
from embedscale.evaluator.datasets.disk_dataset import DiskDataset
from embedscale.evaluator.datasets.intake import Intake
from embedscale.evaluator.sources import DatasetSources
from tests.dataset_files import content, lines, qrels, read, sources, take_in
from tests.waiting import eventually

ROWS = [{"query": f"Question {number}?", "positives": [f"Answer {number}."]} for number in range(5)]
OLD = time.time() - 100


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return lines(tmp_path / "set.jsonl", ROWS)


def noted_builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """URIs of the sets that are read from now on, in order."""
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


def test_an_unchanged_file_is_read_once(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(monkeypatch)
    built = noted_builds(monkeypatch)
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


def test_a_file_that_was_just_written_is_read_each_time(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = noted_builds(monkeypatch)
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
    rows = ({"query": f"Question {n}?", "positives": [f"Answer {n}."]} for n in range(50_000))
    file = lines(tmp_path / "set.jsonl", rows)
    task = asyncio.create_task(sources(tmp_path).take_in(str(file), lenient=False))
    drafts = tmp_path / ".kept" / "drafts"
    await eventually(lambda: drafts.exists() and list(drafts.iterdir()), "no draft is begun", 60)
    task.cancel()
    await asyncio.wait([task])
    await eventually(lambda: not list(drafts.iterdir()), "the draft is left", 60)
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


def test_an_import_stops_while_it_sorts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop, run = threading.Event(), building._Builder.run

    def fill(intake: Intake) -> None:
        for number in range(50_000):
            intake.document(f"{number * 7919 % 50_000:06d}", "text", "")

    def stopped(self: building._Builder, uri: str, **options: bool) -> object:
        stop.set()
        return run(self, uri, **options)

    monkeypatch.setattr(building._Builder, "run", stopped)
    monkeypatch.setattr(building.ContentDigest, "add", lambda *row: pytest.fail("all is sorted"))
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        building.build(tmp_path / "set", "uri", fill, lenient=False, stop=stop)
    assert not (tmp_path / "set.staged").exists()
