"""Settings of all servers: documented, read from flags and environment, refused with everything that is wrong."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from embedscale.embedder.settings import EmbedderSettings
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.settings import ListenerSettings, ServerSettings, load_settings

Load = Callable[..., ListenerSettings]


def _tree(kind: type[ListenerSettings]) -> Iterator[type[ListenerSettings]]:
    yield kind
    for child in kind.__subclasses__():
        # pydantic-settings derives a class of its own while it reads flags.
        if child.__module__.startswith("embedscale."):
            yield from _tree(child)


KINDS = list(_tree(ListenerSettings))
FIELDS = [(kind, name) for kind in KINDS for name in kind.model_fields]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for _, name in FIELDS:
        monkeypatch.delenv(f"EMBEDSCALE_{name.upper()}", raising=False)


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    def run(kind: type[ListenerSettings], *arguments: str) -> ListenerSettings:
        monkeypatch.setattr("sys.argv", ["server", *arguments])
        return load_settings(kind, "server")

    return run


@pytest.fixture
def refuse(load: Load, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    def run(kind: type[ListenerSettings], *arguments: str) -> list[str]:
        with pytest.raises(SystemExit) as caught:
            load(kind, *arguments)
        assert caught.value.code == 2
        output = capsys.readouterr()
        assert output.out == ""
        return output.err.splitlines()

    return run


def test_all_settings_classes_are_looked_at() -> None:
    assert {ServerSettings, EmbedderSettings, ProxySettings, EvaluatorSettings, GatewaySettings} <= set(KINDS)


@pytest.mark.parametrize(("kind", "name"), FIELDS, ids=lambda value: getattr(value, "__name__", value))
def test_every_setting_has_a_sentence(kind: type[ListenerSettings], name: str) -> None:
    description = kind.model_fields[name].description or ""
    assert description.endswith("."), description
    assert len(description.split()) > 2, description


@pytest.mark.parametrize("kind", [EmbedderSettings, ProxySettings, EvaluatorSettings])
def test_help_shows_every_flag_with_its_sentence(
    kind: type[ListenerSettings], load: Load, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as caught:
        load(kind, "--help")
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"settings of the {kind.service.replace('-', ' ')}," in shown.lower()
    for name, field in kind.model_fields.items():
        assert f"--{name.replace('_', '-')} " in shown
        assert " ".join(str(field.description).split()) in shown


@pytest.mark.parametrize("kind", [EmbedderSettings, ProxySettings])
def test_a_server_of_embeddings_starts_without_any_setting(kind: type[ListenerSettings], load: Load) -> None:
    settings = load(kind)
    assert (settings.host, settings.port, settings.log_level) == ("127.0.0.1", 0, "info")


def test_flags_are_read(load: Load) -> None:
    settings = load(
        EmbedderSettings, "--port", "7000", "--port-file", "/tmp/p", "--models", "a", "--models=b,c", "--threads", "2"
    )
    assert settings.port == 7000
    assert settings.port_file == Path("/tmp/p")
    assert settings.models == ["a", "b", "c"]
    assert settings.threads == 2


def test_upstreams_are_read_as_name_and_url(load: Load) -> None:
    settings = load(ProxySettings, "--upstreams", "one=http://a:1/v1", "--upstreams", "two=https://b/v1")
    assert settings.upstreams == {"one": "http://a:1/v1", "two": "https://b/v1"}


def test_environment_variables_are_read(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSCALE_PORT", "7001")
    monkeypatch.setenv("EMBEDSCALE_REDIS_URL", "redis://r")
    monkeypatch.setenv("EMBEDSCALE_MODELS", '["a", "b"]')
    monkeypatch.setenv("EMBEDSCALE_UPSTREAMS", '{"one": "http://a"}')
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_ONE", "not a setting")
    settings = load(ProxySettings)
    assert (settings.port, settings.redis_url) == (7001, "redis://r")
    assert (settings.models, settings.upstreams) == (["a", "b"], {"one": "http://a"})


def test_flags_win_over_environment_variables(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSCALE_PORT", "7001")
    monkeypatch.setenv("EMBEDSCALE_MAX_INPUTS", "9")
    settings = load(EmbedderSettings, "--port", "7002")
    assert (settings.port, settings.max_inputs) == (7002, 9)


def test_every_fault_is_said_in_a_line_of_its_own_and_the_exit_status_is_2(
    refuse: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSCALE_CACHE_TTL_SECONDS", "soon")
    lines = refuse(EmbedderSettings, "--port", "65536", "--drain-seconds", "-1", "--log-level", "loud", "--threads=0")
    flags = [line.split(": ")[:2] for line in lines]
    wrong = ["--port", "--drain-seconds", "--log-level", "--cache-ttl-seconds", "--threads"]
    assert sorted(flags) == sorted(["server", flag] for flag in wrong)
    assert all(len(line.split(": ", 2)[2]) > 10 for line in lines)


def test_the_evaluator_needs_an_address(refuse: Callable[..., list[str]]) -> None:
    (line,) = refuse(EvaluatorSettings)
    assert line.startswith("server: --embedding-addresses: ")


def test_an_unknown_flag_is_refused(refuse: Callable[..., list[str]]) -> None:
    assert "--prot" in refuse(EmbedderSettings, "--prot", "1")[-1]


@pytest.mark.parametrize("value", ["[", "[a", '{"a": 1}', "{", '["a"'])
def test_a_variable_that_is_no_list_is_refused_like_any_other_fault(
    value: str, refuse: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSCALE_MODELS", value)
    (line,) = refuse(EmbedderSettings)
    assert line.startswith("server: ")
    assert "models" in line
    assert "Traceback" not in line


@pytest.mark.parametrize(("value", "names"), [("a", ["a"]), ("a,b", ["a", "b"]), ("", [])])
def test_names_in_a_variable_are_read_as_in_a_flag_or_refused(
    value: str, names: list[str], load: Load, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDSCALE_MODELS", value)
    with suppress(SystemExit):
        assert load(EmbedderSettings).models == names
        return
    assert "models" in capsys.readouterr().err


def test_an_upstream_without_url_is_refused(refuse: Callable[..., list[str]]) -> None:
    assert "upstreams" in refuse(ProxySettings, "--upstreams", "one")[-1]


def test_settings_cannot_be_changed(load: Load) -> None:
    settings = load(EmbedderSettings)
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_a_malformed_redis_url_is_refused_by_the_name_of_its_setting(refuse: Callable[..., list[str]]) -> None:
    assert refuse(EmbedderSettings, "--redis-url", "redis+sentinel://a:1") == [
        "server: --redis-url: names no service: redis+sentinel://host:port,host:port/service/db"
    ]


BEYOND = ["--host", "0.0.0.0"]
PAIR = ["--tls-certificate-file", "a.pem", "--tls-key-file", "a.key"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "embedder.example", "::ffff:10.0.0.1"])
def test_listening_beyond_this_machine_takes_tls_or_a_word_that_it_is_meant(
    load: Load, refuse: Callable[..., list[str]], host: str
) -> None:
    (line,) = refuse(EmbedderSettings, "--host", host)
    assert line == (
        f"server: --host {host} is reached from other machines: encrypt with --tls-certificate-file and "
        "--tls-key-file, or allow plain text with --insecure"
    )
    assert load(EmbedderSettings, "--host", host, "--insecure").host == host
    assert load(EmbedderSettings, "--host", host, *PAIR).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_listening_on_this_machine_takes_nothing(load: Load, host: str) -> None:
    assert load(EmbedderSettings, "--host", host).host == host


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([*BEYOND, *PAIR[:2]], "belong together"),
        (PAIR[2:], "belong together"),
        (["--tls-client-ca-file", "ca.pem"], "--tls-client-ca-file needs"),
        (["--jwt-keys-file", "keys", "--jwt-issuer", "x"], "--jwt-issuer and --jwt-audience"),
    ],
)
def test_settings_of_security_that_are_incomplete_are_refused(
    refuse: Callable[..., list[str]], arguments: list[str], said: str
) -> None:
    (line,) = refuse(EmbedderSettings, *arguments)
    assert said in line


@pytest.mark.parametrize("kind", [EvaluatorSettings, GatewaySettings])
def test_a_token_for_embedding_services_does_not_travel_in_plain_text(
    load: Load, refuse: Callable[..., list[str]], kind: type[ListenerSettings], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("secret-token\n")
    arguments = ["--embedding-addresses", "embedder.example:50051", "--embedding-token-file", str(token)]
    (line,) = refuse(kind, *arguments)
    assert "needs TLS" in line
    assert "secret-token" not in line
    (line,) = refuse(kind, *arguments, "--embedding-certificate-file", "me.pem")
    assert "key_file" in line
    options = load(kind, *arguments, "--embedding-tls").client_options()
    assert (options.encrypted, options.call_metadata()) == (True, [("authorization", "Bearer secret-token")])
    token.write_text("renewed-token")
    assert options.call_metadata() == [("authorization", "Bearer renewed-token")]
