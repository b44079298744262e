"""compose.yaml: valid, locked down, on loopback, and with settings that the servers accept."""

import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedscale.servicekit.keys import key_variable
from embedscale.servicekit.settings import load_settings
from tests.deploy.roles import SETTINGS, unknown

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "compose.yaml"
KEY_FILE = f"{key_variable('openai')}_FILE"

Service = dict[str, Any]


def with_defaults(node: Any) -> Any:
    """What Compose makes of a file's texts when no variable is set."""
    if isinstance(node, dict):
        return {key: with_defaults(value) for key, value in node.items()}
    if isinstance(node, list):
        return [with_defaults(value) for value in node]
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", node) if isinstance(node, str) else node


SERVICES: dict[str, Service] = with_defaults(yaml.safe_load(FILE.read_text("utf-8")))["services"]
OURS = [name for name in SERVICES if name in SETTINGS]
PROMETHEUS = yaml.safe_load((FILE.parent / "prometheus.yaml").read_text("utf-8"))


def settings_given(name: str) -> dict[str, str]:
    return {key: value for key, value in SERVICES[name]["environment"].items() if key != KEY_FILE}


def test_it_is_what_compose_s_schema_asks_for() -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    command = [check, "--builtin-schema", "vendor.compose-spec", FILE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_server_has_a_place_in_it() -> None:
    assert set(OURS) == set(SETTINGS)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_can_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert not {"privileged", "cap_add", "network_mode", "pid"} & set(service)


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_published_on_loopback_only_and_an_image_is_pinned(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert re.search(r":v?\d+\.\d+\.\d+", SERVICES[name]["image"])


def test_no_port_is_published_twice() -> None:
    apart = [ports for name, one in SERVICES.items() if name != "embedder-cpu" for ports in one.get("ports", [])]
    published = [port.rsplit(":", 1)[0] for port in apart]
    assert len(published) == len(set(published))


def test_our_images_have_the_project_s_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert {name: SERVICES[name]["image"] for name in OURS} == {name: f"embedscale/{name}:{version}" for name in OURS}


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_of_the_server(name: str) -> None:
    assert unknown(SETTINGS[name], settings_given(name)) == []
    assert "EMBEDSCALE_LOG_LEVEL" in settings_given(name)


@pytest.mark.parametrize("name", OURS)
def test_the_server_accepts_its_settings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "gateway-keys"
    secret.write_text("key\n")
    for variable, value in {"EMBEDSCALE_HOST": "0.0.0.0", **settings_given(name)}.items():
        monkeypatch.setenv(variable, value.replace("/run/secrets", str(tmp_path)))
    monkeypatch.setattr("sys.argv", ["server"])
    settings = load_settings(SETTINGS[name], "server")
    assert settings.metrics_port == 9090
    assert float(SERVICES[name]["stop_grace_period"].rstrip("s")) > settings.drain_seconds


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_gateway_is_healthy_when_it_says_so_whatever_the_proxy(status: int, healthy: bool) -> None:
    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

    _, *command = SERVICES["openai-gateway"]["healthcheck"]["test"]
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        script = command.pop().replace("8080", str(server.server_port))
        environment = {"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9"}
        done = subprocess.run([sys.executable, *command[1:], script], env=environment, timeout=20)
        thread.join(20)
    assert (done.returncode == 0) is healthy


def test_a_key_is_a_secret_and_no_variable() -> None:
    proxy = SERVICES["openai-proxy"]
    assert proxy["environment"][KEY_FILE] == "/run/secrets/openai-key"
    assert proxy["secrets"] == ["openai-key"]
    assert key_variable("openai") not in proxy["environment"]


def test_redis_keeps_evaluations_and_is_not_reached_from_outside() -> None:
    redis = SERVICES["redis"]
    assert "volatile-lfu" in redis["command"]
    assert redis["networks"] == ["inside"]
    assert "ports" not in redis


def test_prometheus_asks_every_server() -> None:
    (job,) = PROMETHEUS["scrape_configs"]
    reached = {name if not name.startswith("embedder") else "embedder" for name in OURS}
    assert {target.removesuffix(":9090") for target in job["static_configs"][0]["targets"]} == reached
