"""The Dockerfile and what it installs: linted, pinned, and configured by settings that the servers have."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from embedscale.servicekit.settings import load_settings
from tests.deploy.roles import SETTINGS, unknown

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "deploy" / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = (
    "embedder", "openai-proxy", "openai-gateway", "evaluator", "cli", "report", "parquet", "documents", "cloud", "hub",
    "otel",
)  # fmt: skip
NEEDED = {"EMBEDSCALE_EMBEDDING_ADDRESSES": '["embedder:50051"]'}


def stages() -> Mapping[str, list[str]]:
    """Lines of each stage, those of the stages that it is built from first."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in DOCKERFILE.replace("\\\n", " ").splitlines():
        if start := re.match(r"FROM (\S+) AS (\S+)", line):
            lines = found[start[2]] = list(found.get(start[1], []))
        lines.append(line)
    return found


def variables(lines: list[str]) -> dict[str, str]:
    words = [word for line in lines if line.startswith("ENV ") for word in shlex.split(line)[1:]]
    return dict(word.split("=", 1) for word in words)


def pins(name: str) -> dict[str, str]:
    lines = (DOCKER / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def requirements(extras: Iterable[str]) -> list[Requirement]:
    """What some extras need, those that they name included."""
    needed = [Requirement(one) for extra in extras for one in PROJECT["project"]["optional-dependencies"][extra]]
    own = [extra for one in needed if one.name == "embedscale" for extra in one.extras]
    return [one for one in needed if one.name != "embedscale"] + (requirements(own) if own else [])


def unmet(needed: Iterable[Requirement], pinned: Mapping[str, str]) -> list[str]:
    versions = [(one, pinned.get(canonicalize_name(one.name))) for one in needed]
    return [str(one) for one, version in versions if not version or not one.specifier.contains(version, True)]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_there_is_an_image_for_each_role() -> None:
    assert {*SETTINGS, "evalctl"} <= set(stages())


def test_the_base_is_pinned_by_tag_and_digest() -> None:
    bases = {name for name in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) if name not in stages()}
    assert bases == {"${BASE}"}
    assert re.search(r"^ARG BASE=\S+/debian:\w+-\d{8}-slim@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("role", [*SETTINGS, "evalctl"])
def test_an_image_has_a_numeric_user_and_a_first_process_that_passes_signals_on(role: str) -> None:
    lines = stages()[role]
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001:10001"]
    (entrypoint,) = [line for line in lines if line.startswith("ENTRYPOINT")]
    assert entrypoint.startswith('ENTRYPOINT ["tini", "--", ')


@pytest.mark.parametrize("role", SETTINGS)
def test_every_variable_of_an_image_is_a_setting_that_its_server_accepts(
    role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: value for name, value in variables(stages()[role]).items() if name.startswith("EMBEDSCALE_")}
    assert {"EMBEDSCALE_HOST", "EMBEDSCALE_PORT"} <= set(given)
    assert unknown(SETTINGS[role], given) == []
    for name, value in {**NEEDED, **given, "EMBEDSCALE_HOST": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["server"])
    assert load_settings(SETTINGS[role], role).port == int(given["EMBEDSCALE_PORT"])


def test_an_image_alone_does_not_listen_beyond_its_machine_in_plain_text() -> None:
    assert "INSECURE" not in DOCKERFILE


def test_everything_that_is_installed_has_its_version_pinned() -> None:
    needed = [*map(Requirement, PROJECT["project"]["dependencies"]), *requirements(EXTRAS)]
    assert "pydantic-settings" in {one.name for one in needed}
    assert unmet(needed, pins("constraints.txt")) == []


def test_everything_that_builds_has_its_version_pinned() -> None:
    assert unmet(map(Requirement, PROJECT["build-system"]["requires"]), pins("build-constraints.txt")) == []


def test_extras_are_pinned_that_images_install_and_no_others() -> None:
    installed = re.findall(r"\.whl\)\[([a-z,-]+)\]|ARG \w+_EXTRAS=(\S+)", DOCKERFILE)
    assert {extra for found in installed for extra in "".join(found).split(",")} <= set(EXTRAS)
    assert f'EXTRAS = "{",".join(EXTRAS)}"' in (DOCKER / "pin.py").read_text("utf-8")


@pytest.mark.parametrize("role", SETTINGS)
def test_a_server_s_image_can_send_traces(role: str) -> None:
    assert "otel" in " ".join(stages()[f"{role}-venv"])


def test_the_wheel_s_sources_are_not_kept_from_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    sources = {source for line in copied for source in line.split() if not source.startswith("deploy/")}
    assert sources
    assert {f"!{source}" for source in sources} <= set(ignored)
    assert all((ROOT / source).exists() for source in sources)
