"""Reads data sets from bytes as imports do, and says what every import must keep."""

import json
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedscale.core.dataset import Fault
from embedscale.core.errors import DatasetInvalid
from embedscale.evaluator.convert_dataset import to_dataset
from embedscale.evaluator.datasets import formats
from embedscale.evaluator.datasets.building import build
from embedscale.evaluator.datasets.disk_dataset import DiskDataset
from embedscale.evaluator.datasets.files import Budget, opened
from embedscale.evaluator.datasets.intake import Intake
from embedscale.v1 import evaluation_service_pb2 as pb

MOST_BYTES = 2**22

Files = Mapping[str, bytes]
Table = dict[str, str]
Grades = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Content:
    """All of a set."""

    digest: str
    queries: Table
    documents: Table
    grades: Grades
    faults: tuple[Fault, ...] = ()


def read(files: Files, *, lenient: bool = False) -> Content:
    """Read a single file, or a folder of several. Raises DatasetInvalid."""
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        root = Path(folder, "set")
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        path = root / next(iter(files)) if len(files) == 1 else root
        return _read(path, Path(folder, "draft"), lenient)


def _memory() -> str | None:
    """Where files are never written to a disk, if there is such a place."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _read(path: Path, draft: Path, lenient: bool) -> Content:
    def fill(intake: Intake) -> None:
        with opened(path, path.name, path, Budget("set", MOST_BYTES)) as files:
            formats.read("set", files, {}, intake)
        intake.languages = intake.languages or ("und",)  # else most of the time would go into telling it

    built = build(draft, "set", fill, lenient=lenient, stop=threading.Event())
    dataset = DiskDataset(draft, "set")
    queries = dict(dataset.queries())
    judged = zip(queries, dataset.judgements(list(queries)), strict=True)
    grades = {query: dict(given) for query, given in judged if given}
    assert (built.card.query_count, len(built.faults.first) > 0) == (len(queries), bool(built.card.skipped))
    to_dataset(dataset.card).SerializeToString()
    return Content(built.card.digest, queries, dict(dataset.documents()), grades, tuple(built.faults.first))


def checked(files: Files) -> Content | None:
    """Read strictly and leniently, and check what both must keep; None where a set is refused either way."""
    try:
        strict = read(files)
    except DatasetInvalid as error:
        assert error.field == "dataset"
        assert error.message.startswith(("set: ", "set is larger", *files))
        strict = None
    try:
        lenient = read(files, lenient=True)
    except DatasetInvalid as error:
        assert strict is None, error.message
        assert error.field == "dataset"
        return None
    assert bool(lenient.faults) == (strict is None)
    assert strict in (None, lenient)
    for fault in lenient.faults:
        assert fault.place.startswith(tuple(name.removesuffix(".gz").removesuffix(".zst") for name in files)), fault
        assert fault.message
        pb.DatasetFault(kind=fault.kind, place=fault.place, message=fault.message).SerializeToString()
    check_round_trip(lenient)
    return strict


def check_round_trip(content: Content) -> None:
    """Written as BEIR and read again, strictly, it is the same; there queries without judgements are left out."""
    queries = {key: text for key, text in content.queries.items() if key in content.grades}
    if not queries:
        return
    again = read(as_beir(content))
    assert (again.queries, again.documents, again.grades) == (queries, content.documents, content.grades)
    assert (again.digest == content.digest) == (queries == content.queries)


def as_beir(content: Content) -> Files:
    """The set as the files of a folder."""
    judged = [
        {"query-id": query, "corpus-id": document, "score": grade}
        for query, grades in content.grades.items()
        for document, grade in grades.items()
    ]
    tables = {
        "corpus.jsonl": [{"_id": key, "text": text} for key, text in content.documents.items()],
        "queries.jsonl": [{"_id": key, "text": text} for key, text in content.queries.items()],
        "qrels/test.jsonl": judged,
    }
    return {name: b"".join(json.dumps(row).encode() + b"\n" for row in rows) for name, rows in tables.items()}
