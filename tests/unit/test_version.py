"""One version, that of pyproject.toml, wherever there is one."""

import json
import re
import subprocess

import pytest
from click.testing import CliRunner

from embedscale.cli.main import main
from embedscale.servicekit.server_facts import server_version
from tests.unit.scripts import ROOT, script

write_version = script("deploy/write_version.py")
VERSION = write_version.project_version()


def test_every_file_that_names_the_version_has_it() -> None:
    for path, content in write_version.written(VERSION).items():
        assert path.read_text("utf-8") == content, f"{path.relative_to(ROOT)}: run `make version`"


def test_another_version_would_change_each_of_these_files() -> None:
    written = write_version.written("12.3.4.dev5")
    assert all(path.read_text("utf-8") != content for path, content in written.items())
    chart = written[ROOT / "deploy" / "helm" / "embedscale" / "Chart.yaml"]
    assert "\nversion: 12.3.4-dev5\nappVersion: 12.3.4.dev5\n" in chart
    assert written[ROOT / "deploy" / "compose.yaml"].count("${VERSION:-12.3.4.dev5}") == 5


def test_a_file_without_a_place_for_it_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_version, "_PLACES", {"LICENSE": [("^version: (.+)$", str)]})
    with pytest.raises(ValueError, match="LICENSE has nothing like"):
        write_version.written(VERSION)


def test_what_is_installed_is_this_version() -> None:
    assert server_version() == VERSION, "install again: `make protos`"
    told = json.loads(CliRunner().invoke(main, ["version", "-o", "json"]).stdout)
    assert told["embedscale"] == VERSION


def test_images_are_tagged_with_it() -> None:
    command = ["make", "--no-print-directory", "--eval", "tag: ; @echo $(VERSION)", "tag"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == VERSION


def test_the_changelog_begins_with_it_or_with_what_is_not_released_yet() -> None:
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)[1]
    if ".dev" in VERSION:
        assert newest == "Unreleased"
    else:
        assert re.fullmatch(rf"{re.escape(VERSION)} \(\d{{4}}-\d{{2}}-\d{{2}}\)", newest)
