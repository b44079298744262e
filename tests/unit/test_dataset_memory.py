"""An import's memory does not grow with the set."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.dataset_files import lines, qrels

DOCUMENTS = 60_000
GROWTH_MEGABYTES = 40

MEASURE = """
import resource, sys
from pathlib import Path
from tests.dataset_files import read

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

folder = Path(sys.argv[1])
read(folder, folder / "small")
before = peak()
dataset = read(folder, folder / "large")
texts = sum(len(text) for _, text in dataset.documents())
judged = sum(len(one) for one in dataset.judgements([key for key, _ in dataset.queries()]))
print(peak() - before, dataset.card.document_count, texts, judged)
"""


def write(folder: Path, count: int) -> None:
    lines(folder / "corpus.jsonl", ({"_id": f"d{i * 7919 % count}", "text": f"{i} " * 350} for i in range(count)))
    lines(folder / "queries.jsonl", ({"_id": f"q{i}", "text": f"Which {i}?"} for i in range(count // 10)))
    qrels(folder / "qrels" / "test.tsv", ((f"q{i}", f"d{i}", 1) for i in range(count // 10)))


@pytest.mark.slow
def test_memory_is_the_same_for_many_documents(tmp_path: Path) -> None:
    write(tmp_path / "small", 2_000)
    write(tmp_path / "large", DOCUMENTS)
    size = (tmp_path / "large" / "corpus.jsonl").stat().st_size
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    growth, documents, characters, judged = map(float, done.stdout.split())
    assert documents == DOCUMENTS
    assert judged == DOCUMENTS / 10
    assert characters > 0.9 * size - 30 * DOCUMENTS
    assert growth < GROWTH_MEGABYTES < size / 1e6 / 2
