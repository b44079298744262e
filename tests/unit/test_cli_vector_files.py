"""Files of vectors, as others read them."""

import gc
import json
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from embedscale.cli.errors import CommandFailed
from embedscale.cli.texts import lines
from embedscale.cli.vector_files import vector_file
from embedscale.client import EmbedResult
from embedscale.core.embedding import Encoding
from embedscale.core.vectors import encode

TEXTS = [f"text {number}" for number in range(130)]
MATRIX = np.random.default_rng(7).normal(size=(len(TEXTS), 24)).astype(np.float32) / 3


def blocks(matrix: np.ndarray = MATRIX, size: int = 64) -> list[tuple[list[str], EmbedResult]]:
    made = []
    for start in range(0, len(TEXTS), size):
        part = matrix[start : start + size]
        counts = np.arange(start, start + len(part)) - (start == 0)  # the first is not told
        flags = np.arange(len(part)) % 2 == 0
        made.append((TEXTS[start : start + size], EmbedResult(part, counts, flags, ~flags, "f", 1, 0.0)))
    return made


def written(path: Path, matrix: np.ndarray = MATRIX, kind: str | None = None) -> Path:
    with vector_file(path, kind) as file:
        for batch, result in blocks(matrix):
            file.write(batch, result)
    return path


@pytest.mark.parametrize(
    ("encoding", "dtype"), [("FLOAT32", "f4"), ("FLOAT16", "f2"), ("INT8", "i1"), ("BINARY", "u1")]
)
def test_all_formats_hold_the_same_rows_in_order(tmp_path: Path, encoding: str, dtype: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    expected = np.frombuffer(encode(MATRIX, Encoding[encoding]), dtype).reshape(len(TEXTS), -1)
    matrix = np.load(written(tmp_path / "v.npy", expected))
    assert matrix.dtype == expected.dtype
    np.testing.assert_array_equal(matrix, expected)
    rows = [json.loads(line) for line in written(tmp_path / "v.jsonl", expected).read_text().splitlines()]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["token_count"] for row in rows[:3]] == [None, 0, 1]
    np.testing.assert_array_equal([row["embedding"] for row in rows], expected)
    assert parquet.read_table(written(tmp_path / "v.parquet", expected)).to_pylist() == rows


def broken_off(path: Path) -> None:
    with vector_file(path, None) as file:
        file.write(*blocks()[0])
        raise ValueError("broken off")


def test_a_file_that_does_not_get_whole_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "v.npy").write_text("older")
    with pytest.raises(ValueError, match="broken off"):
        broken_off(tmp_path / "v.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["v.npy"]
    assert (tmp_path / "v.npy").read_text() == "older"


@pytest.mark.parametrize("kind", ["npy", "jsonl", "parquet"])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    file = vector_file(tmp_path / "v", kind)
    file.__enter__().write(*blocks()[0])
    file.__exit__(ValueError, ValueError(), None)
    del file
    gc.collect()  # what was not closed would complain now
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_end_cannot_be_written_is_not_there(tmp_path: Path) -> None:
    file = vector_file(tmp_path / "v.npy", None)
    with pytest.raises(OSError, match="disk"), file:
        file.finish = Mock(side_effect=OSError("disk is full"))  # type: ignore[method-assign]
    assert list(tmp_path.iterdir()) == []


def test_the_format_is_told_by_the_ending_or_by_the_option(tmp_path: Path) -> None:
    assert written(tmp_path / "v.bin", kind="jsonl").read_text().startswith("{")
    with pytest.raises(CommandFailed, match=r"\.npy, \.jsonl, \.parquet"):
        vector_file(tmp_path / "v.bin", None)


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(CommandFailed, match=r"embedscale\[parquet\]"):
        written(tmp_path / "v.parquet")
    assert list(tmp_path.iterdir()) == []


def test_lines_of_files_without_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("één\r\n\n two \n".encode())
    (tmp_path / "b").write_bytes(b"three")
    assert list(lines([tmp_path / "a", tmp_path / "b"])) == ["één", " two ", "three"]
    (tmp_path / "b").write_bytes(b"good\n\xff\n")
    with pytest.raises(CommandFailed, match=r"is not UTF-8: see line 2"):
        list(lines([tmp_path / "b"]))
