"""What the pages of the documentation say: their commands, links and headings."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]+))?\)")
LINK_TEXT = re.compile(r"\[([^]]*)\]\([^)]*\)")


def commands(page: Path) -> Iterator[str]:
    """Commands of the page's examples: lines of shell, and what stands after `$ ` where output is shown too."""
    for language, body in FENCE.findall(page.read_text("utf-8")):
        for line in body.replace("\\\n", " ").splitlines():
            if language in ("sh", "bash") or line.startswith("$ "):
                yield re.sub(r"(^|\s+)#\s.*", "", line.removeprefix("$ ")).strip()


def links(page: Path) -> set[tuple[Path, str]]:
    """Files that the page links to, and the heading in each, or an empty text."""
    prose = FENCE.sub("", page.read_text("utf-8"))
    return {(page.parent / file if file else page, anchor) for file, anchor in LINK.findall(prose)}


def anchors(page: Path) -> set[str]:
    """What headings are linked by: lower case, no punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", LINK_TEXT.sub(r"\1", heading).lower()).replace(" ", "-") for heading in headings}
