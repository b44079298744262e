"""Writes the version of `pyproject.toml` into the files that have to name it themselves: `make version`."""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def project_version() -> str:
    """The version of everything. Wheels are built with it, and what is installed tells that of its wheel."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"])


def _as_it_is(version: str) -> str:
    return version


def _semantic(version: str) -> str:
    """As Helm takes it: 0.2.0.dev0 is 0.2.0-dev0 there."""
    return version.replace(".dev", "-dev")


_PLACES: Mapping[str, list[tuple[str, Callable[[str], str]]]] = {
    "deploy/helm/embedscale/Chart.yaml": [(r"^version: (.+)$", _semantic), (r"^appVersion: (.+)$", _as_it_is)],
    "deploy/compose.yaml": [(r"\$\{VERSION:-([^}]+)\}", _as_it_is)],
    "docs/guide-images.md": [(r"embedscale/[\w-]+:(\d[\w.]*)", _as_it_is)],
    "docs/guide-telemetry.md": [(r'"version":"([^"]+)"', _as_it_is)],
}
"""Files, and what is followed there by the version, which is the pattern's group."""


def written(version: str) -> dict[Path, str]:
    """Content that each file has with this version. Raises ValueError where a file has no place for it."""
    return {ROOT / name: _replaced(name, version) for name in _PLACES}


def _replaced(name: str, version: str) -> str:
    content = (ROOT / name).read_text("utf-8")
    for pattern, form in _PLACES[name]:
        found = list(re.finditer(pattern, content, re.MULTILINE))
        if not found:
            raise ValueError(f"{name} has nothing like {pattern}")
        for match in reversed(found):
            content = content[: match.start(1)] + form(version) + content[match.end(1) :]
    return content


if __name__ == "__main__":
    for path, content in written(project_version()).items():
        path.write_text(content, "utf-8")
