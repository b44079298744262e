"""A tokenizer is read once for all models that have it, and made-up texts of its tokens cost next to nothing."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from embedscale.embedder.probe import probe_windows
from embedscale.embedder.tokenizing import read_tokenizer
from tests.contract.test_local_models import FOLDER, TEXTS
from tests.fakes import tiny_models


def test_models_that_are_read_at_once_share_a_tokenizer(tmp_path: Path) -> None:
    folder = tiny_models.build(tmp_path / "bert", "bert")
    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(read_tokenizer, [folder] * 4)
    assert all(other is first for other in others)


def test_threads_that_share_a_tokenizer_get_the_same_tokens() -> None:
    tokenizer = read_tokenizer(FOLDER)
    expected = tokenizer.tokenize(TEXTS)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(lambda _: tokenizer.tokenize(TEXTS), range(200)))


def test_a_changed_tokenizer_is_read_anew(tmp_path: Path) -> None:
    folder = tiny_models.build(tmp_path / "bert", "bert")
    first = read_tokenizer(folder)
    (folder / "vocab.txt").write_text("[UNK]\n")
    assert read_tokenizer(folder) is not first


def test_made_up_texts_take_no_time_from_what_is_measured_with_them() -> None:
    tokenizer = read_tokenizer(FOLDER)
    started = time.thread_time()
    probe_windows(tokenizer, [62] * 128, 512)
    assert time.thread_time() - started < 0.2
