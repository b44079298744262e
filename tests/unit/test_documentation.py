"""What the documentation tells a reader to type or to follow exists."""

import importlib.util
import re
from pathlib import Path

import pytest

from tests.markdown_pages import PAGES, ROOT, anchors, commands, links

TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_targets_of_make_exist(page: Path) -> None:
    named = set(re.findall(r"`make ([a-z][\w-]*)", page.read_text("utf-8")))
    named |= {target for command in commands(page) for target in re.findall(r"^make ([a-z][\w-]*)", command)}
    assert named <= TARGETS


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_modules_that_are_run_exist_and_know_their_flags(page: Path) -> None:
    for command in commands(page):
        for module in re.findall(r"python -m ((?:embedscale|benchmarks)[\w.]*)", command):
            assert importlib.util.find_spec(module), command
            if module.startswith("embedscale."):
                assert all(f"`{flag}" in REFERENCE for flag in re.findall(r"--[a-z][\w-]+", command)), command


def test_there_is_something_to_look_at() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) > 100
    assert sum(len(links(page)) for page in PAGES) > 100
