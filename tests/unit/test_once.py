"""Folders of the cache are made by one thread of a process, and held up for nobody who finds them made."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedscale.embedder.once import made_once


def test_threads_that_want_the_same_folder_make_it_once(tmp_path: Path) -> None:
    made, together = [], threading.Barrier(4)

    def make(draft: Path) -> None:
        made.append(draft)
        (draft / "file").write_text("content")
        threading.Event().wait(0.05)

    def want(_: int) -> Path:
        together.wait()
        return made_once(tmp_path / "folder", make)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(want, range(4))) == {tmp_path / "folder"}
    assert len(made) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_is_there_waits_for_no_other(tmp_path: Path) -> None:
    made_once(tmp_path / "there", lambda draft: None)

    def make(_: Path) -> None:
        made_once(tmp_path / "there", lambda draft: pytest.fail("made again"))

    assert made_once(tmp_path / "other", make) == tmp_path / "other"
