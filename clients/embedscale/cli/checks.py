"""What servers say of themselves: health, version, clock, Redis, models."""

import importlib.metadata
import platform
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedscale.cli.local_cluster import missing_packages
from embedscale.client import ClientError
from embedscale.client.channel import Channel
from embedscale.client.options import ClientOptions
from embedscale.v1 import cache_service_pb2 as cache_pb
from embedscale.v1 import embedding_service_pb2 as embedding_pb
from embedscale.v1 import evaluation_service_pb2 as evaluation_pb
from embedscale.v1.cache_service_pb2_grpc import CacheServiceStub
from embedscale.v1.embedding_service_pb2_grpc import EmbeddingServiceStub
from embedscale.v1.evaluation_service_pb2_grpc import EvaluationServiceStub

_SECONDS = 10.0
_CLOCK_SECONDS = 2.0
_TOLD_VERSION = "embedscale-version"
_TOLD_TIME = "embedscale-time"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    status: Literal["ok", "warn", "fail"]
    name: str
    found: str
    advice: str = ""


def check_python() -> Check:
    """Say whether `evalctl up` has what it needs."""
    found = f"Python {platform.python_version()}, embedscale {importlib.metadata.version('embedscale')}"
    if missing := missing_packages():
        advice = "only `evalctl up` and `demo` need them: pip install 'embedscale[local]'"
        return Check("warn", "this machine", f"{found}; without {', '.join(missing)}", advice)
    return Check("ok", "this machine", f"{found}, all packages for `evalctl up`")


async def check_services(kind: str, address: str, options: ClientOptions) -> AsyncIterator[Check]:
    """Ask the server of an address, of the kind "embedding" or "evaluation", about itself."""
    try:
        channel = Channel(address, options)
    except ValueError as error:
        yield Check("fail", f"{address} calls", str(error), "give the context --tls or --ca-file")
        return
    try:
        yield await _health(channel)
        checks = _embedding(channel) if kind == "embedding" else _evaluation(channel)
        async for check in checks:
            yield check
    except ClientError as error:
        yield Check("fail", f"{address} calls", error.message, _advice(error))
    finally:
        await channel.close()


async def _health(channel: Channel) -> Check:
    """A server without a health service, or with one that its token does not reach, is only warned of."""
    name = f"{channel.address} health"
    try:
        pending = health_pb2_grpc.HealthStub(channel.grpc).Check(health_pb2.HealthCheckRequest(), timeout=_SECONDS)
        status = (await channel.call(pending)).status
    except ClientError as error:
        return Check("warn", name, error.message, "other checks tell more")
    if status == health_pb2.HealthCheckResponse.SERVING:
        return Check("ok", name, "serving")
    return Check("fail", name, "not serving", "it starts, drains, or could not load: see its log")


async def _embedding(channel: Channel) -> AsyncIterator[Check]:
    stub: Any = EmbeddingServiceStub(channel.grpc)
    request = embedding_pb.ListModelsRequest()
    listed, checks = await _answer(channel, stub.ListModels(request, timeout=_SECONDS))
    for check in (*checks, *(_model(channel.address, model) for model in listed.models)):
        yield check
    cache: Any = CacheServiceStub(channel.grpc)
    stats = await channel.call(cache.GetCacheStats(cache_pb.GetCacheStatsRequest(), timeout=_SECONDS))
    yield _redis(channel.address, stats)


async def _evaluation(channel: Channel) -> AsyncIterator[Check]:
    stub: Any = EvaluationServiceStub(channel.grpc)
    request = evaluation_pb.ListEvaluationsRequest(page_size=1)
    _, checks = await _answer(channel, stub.ListEvaluations(request, timeout=_SECONDS))
    for check in checks:
        yield check


async def _answer(channel: Channel, pending: Any) -> tuple[Any, list[Check]]:
    """Await a call, and check the version and the clock that come with its answer."""
    asked = time.time()
    answer = await channel.call(pending)
    answered = time.time()
    facts = dict(await pending.trailing_metadata() or ())
    checks = [check_version(channel.address, str(facts.get(_TOLD_VERSION, "")))]
    if _TOLD_TIME in facts:
        ahead = float(facts[_TOLD_TIME]) - (asked + answered) / 2
        checks.append(check_clock(channel.address, ahead, answered - asked))
    return answer, checks


def check_version(address: str, server: str) -> Check:
    """Compare the server's version with that of evalctl."""
    ours = importlib.metadata.version("embedscale")
    name = f"{address} version"
    if not server:
        return Check("warn", name, "the server does not tell its version", "it is older than this evalctl: renew it")
    if server != ours:
        return Check("warn", name, f"server {server}, evalctl {ours}", "install the same version on both sides")
    return Check("ok", name, server)


def check_clock(address: str, ahead: float, round_trip: float) -> Check:
    """Judge a clock that is `ahead` of ours, in seconds, as read in a call of `round_trip` seconds."""
    found = f"{ahead:+.2f} s, give or take {round_trip / 2:.2f} s"
    if abs(ahead) - round_trip / 2 > _CLOCK_SECONDS:
        return Check("warn", f"{address} clock", found, "set both clocks by NTP: tokens and times depend on them")
    return Check("ok", f"{address} clock", found)


def _model(address: str, model: embedding_pb.Model) -> Check:
    state = embedding_pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()
    name = f"{address} model {model.name}"
    if model.state in (embedding_pb.MODEL_STATE_READY, embedding_pb.MODEL_STATE_UNLOADED):
        return Check("ok", name, state)
    if model.state == embedding_pb.MODEL_STATE_LOADING:
        return Check("warn", name, state, "wait; `evalctl models` shows when it is ready")
    return Check("fail", name, f"{state}: {model.state_message}", f"`evalctl models show {model.name}` and its log")


def _redis(address: str, stats: cache_pb.GetCacheStatsResponse) -> Check:
    name = f"{address} Redis"
    if stats.redis_state == cache_pb.REDIS_STATE_IN_USE and stats.HasField("redis_used_bytes"):
        return Check("ok", name, f"in use, {stats.redis_used_bytes / 1e6:.1f} MB")
    if stats.redis_state == cache_pb.REDIS_STATE_NONE:
        return Check("warn", name, "none: vectors are cached in memory only", "start the server with --redis-url")
    return Check("fail", name, "does not answer", "is Redis up, and --redis-url of the server right?")


def _advice(error: ClientError) -> str:
    refused = type(error).__name__ in ("Unauthenticated", "PermissionDenied")
    return "check the token of the context" if refused else "see the server's log"
