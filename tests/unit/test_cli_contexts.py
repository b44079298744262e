"""Which cluster a command talks to, and with which token."""

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import keyring.backends.fail
import pytest
from click.testing import CliRunner, Result
from keyrings.alt.file import PlaintextKeyring

from embedscale.cli import options
from embedscale.cli.contexts import Context, Contexts
from embedscale.cli.home import ClusterState, Home
from embedscale.cli.main import main

FAR = ("--embedding-address", "far:1", "--evaluation-address", "far:2", "--tls")


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("EVALCTL_CONTEXT", "EVALCTL_EMBEDDING_ADDRESS", "EVALCTL_EVALUATION_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EVALCTL_CONFIG", str(tmp_path / "config" / "contexts.json"))
    monkeypatch.setenv("EMBEDSCALE_HOME", str(tmp_path / "home"))
    return tmp_path


def evalctl(*arguments: str, **options: str) -> Result:
    return CliRunner().invoke(main, arguments, **options)


def found(*arguments: str, address: str | None = None) -> tuple[str, bool]:
    """Address of the evaluator, and whether it is reached by TLS, as a command after these arguments has it."""
    with main.make_context("evalctl", [*arguments, "list"]):
        place, how = options.evaluation(address)
        return place, how.encrypted


def listed() -> dict[str, dict[str, object]]:
    return {one["name"]: one for one in json.loads(evalctl("context", "list", "-o", "json").output)["contexts"]}


def test_set_use_list_delete(own_files: Path) -> None:
    assert evalctl("context", "set", "far", *FAR, "--token-env", "SECRET").exit_code == 0
    assert evalctl("context", "use", "far").exit_code == 0
    assert {name for name, one in listed().items() if one["current"]} == {"far"}
    assert listed()["far"]["embedding_addresses"] == ["far:1"]
    assert evalctl("context", "delete", "far").exit_code == 0
    assert {name for name, one in listed().items() if one["current"]} == {"local"}
    assert list(listed()) == ["local"]


def test_only_the_owner_reads_the_file() -> None:
    evalctl("context", "set", "far", *FAR)
    path = Contexts().path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    evalctl("context", "use", "far")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_usual_order(monkeypatch: pytest.MonkeyPatch) -> None:
    evalctl("context", "set", "far", *FAR)
    evalctl("context", "set", "near", "--evaluation-address", "127.0.0.1:2", "--embedding-address", "127.0.0.1:1")
    evalctl("context", "use", "far")
    assert found() == ("far:2", True)
    monkeypatch.setenv("EVALCTL_CONTEXT", "near")
    assert found() == ("127.0.0.1:2", False)
    assert found("--context", "far") == ("far:2", True)
    assert found("--context", "far", address="given:3") == ("given:3", True)


def test_an_address_alone_gets_nothing_of_the_current_context() -> None:
    evalctl("context", "set", "far", *FAR, "--token-env", "NOT_SET")
    evalctl("context", "use", "far")
    assert found(address="given:3") == ("given:3", False)


def test_the_local_cluster_is_the_context_when_none_is_chosen() -> None:
    home = Home()
    with home.owned():
        home.publish(ClusterState(os.getpid(), ["127.0.0.1:1"], "127.0.0.1:2", ""))
        assert found() == ("127.0.0.1:2", False)
    result = evalctl("list")
    assert result.exit_code == 2
    assert "evalctl up --detach" in result.stderr


@pytest.fixture
def in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The keyring package with a backend that needs no desktop."""
    before = keyring.get_keyring()
    backend = PlaintextKeyring()
    monkeypatch.setattr(PlaintextKeyring, "file_path", str(tmp_path / "passwords"))
    keyring.set_keyring(backend)
    yield
    keyring.set_keyring(before)


def test_tokens_come_from_a_variable_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SECRET", "from variable")
    (tmp_path / "token").write_text("from file\n")
    assert Context(tls=True, token_env="SECRET").client_options().token == "from variable"
    assert Context(tls=True, token_file=str(tmp_path / "token")).client_options().token == "from file"


@pytest.mark.usefixtures("in_a_file")
def test_a_token_in_the_keyring_is_kept_found_and_deleted_with_its_context() -> None:
    assert evalctl("context", "set", "far", *FAR, "--token-keyring", input="from keyring\n").exit_code == 0
    assert "from keyring" not in Contexts().path.read_text()
    assert Contexts().get("far").client_options().token == "from keyring"
    assert keyring.get_password("evalctl", "far") == "from keyring"
    assert evalctl("context", "delete", "far").exit_code == 0
    assert keyring.get_password("evalctl", "far") is None


@pytest.mark.usefixtures("in_a_file")
def test_a_token_that_left_the_keyring_is_told_and_its_context_can_be_deleted() -> None:
    evalctl("context", "set", "far", *FAR, "--token-keyring", input="from keyring\n")
    keyring.delete_password("evalctl", "far")
    result = evalctl("--context", "far", "list")
    assert (result.exit_code, result.stderr) == (
        2,
        "evalctl: no token: the keyring has no password of evalctl for far\n",
    )
    assert evalctl("context", "delete", "far").exit_code == 0


@pytest.mark.usefixtures("in_a_file")
def test_an_empty_token_is_refused() -> None:
    result = evalctl("context", "set", "far", *FAR, "--token-keyring", input="\n")
    assert (result.exit_code, result.stderr) == (2, "evalctl: no token on standard input\n")
    assert not Contexts().contexts


def test_a_machine_without_a_keyring_is_told_of_the_other_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring.core, "_keyring_backend", keyring.backends.fail.Keyring())
    result = evalctl("context", "set", "far", *FAR, "--token-keyring", input="token\n")
    assert result.exit_code == 2
    assert "No recommended backend was available; --token-file and --token-env do without one" in result.stderr
    assert not Contexts().contexts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("set", "local"), "local is the cluster of this machine"),
        (("use", "nothing"), "no context is named 'nothing'"),
        (("delete", "nothing"), "no context is named 'nothing'"),
        (("set", "far", "--evaluation-address", "far:2", "--token-env", "SECRET"), "needs TLS: give --tls"),
        (("set", "far", *FAR, "--token-env", "A", "--token-file", "b"), "give one of --token-env"),
        (("set", "far", "--server-name", "x"), "server_name"),
    ],
)
def test_what_is_wrong_is_refused(arguments: tuple[str, ...], words: str) -> None:
    result = evalctl("context", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Contexts().contexts


def test_a_missing_token_and_a_damaged_file_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    evalctl("context", "set", "far", *FAR, "--token-env", "NOT_SET")
    result = evalctl("--context", "far", "list")
    assert (result.exit_code, result.stderr) == (2, "evalctl: no token: variable NOT_SET is not set\n")
    Contexts().path.write_text('{"contexts": {"a": {"colour": "red"}}}')
    result = evalctl("context", "list")
    assert result.exit_code == 2
    assert "is not a file of contexts" in result.stderr


def test_without_the_keyring_package_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    result = evalctl("context", "set", "far", *FAR, "--token-keyring", input="token\n")
    assert result.exit_code == 2
    assert "pip install 'embedscale[keyring]'" in result.stderr


def test_the_doctor_only_warns_of_the_service_that_a_context_does_without() -> None:
    def missing() -> dict[str, str]:
        checks = json.loads(evalctl("doctor", "-o", "json").output)["checks"]
        return {one["name"]: one["status"] for one in checks if one["name"].endswith(" address")}

    assert missing() == {"embedding address": "fail", "evaluation address": "fail"}
    evalctl("context", "set", "far", "--embedding-address", "far.invalid:1")
    evalctl("context", "use", "far")
    assert missing() == {"evaluation address": "warn"}
