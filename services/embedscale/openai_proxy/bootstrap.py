"""Names the proxy's concrete classes."""

import asyncio
from dataclasses import dataclass, replace
from functools import partial

from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog, CatalogError, RemoteModel, UpstreamEntry
from embedscale.embedding.redis_store import RedisStore
from embedscale.openai_proxy.calls import Calls
from embedscale.openai_proxy.engine import UpstreamEngine, upstream_names
from embedscale.openai_proxy.limiter import SharedLimiter
from embedscale.openai_proxy.packer import Packer
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.openai_proxy.shared_state import SharedState
from embedscale.openai_proxy.spending import Spending
from embedscale.openai_proxy.tokens import load_tokenizer
from embedscale.openai_proxy.upstream import Upstream
from embedscale.servicekit.keys import read_key
from embedscale.servicekit.lifecycle import Application
from embedscale.servicekit.rate_limits import Bucket, Limiter, buckets
from embedscale.servicekit.redis_url import parse_redis_url
from embedscale.servicekit.retries import Retries


def build(settings: ProxySettings, catalog: Catalog) -> Application:
    """Build the application. Raises CatalogError if models and upstreams do not belong together, or none is left."""
    remote = {name: model for name, model in catalog.models.items() if isinstance(model, RemoteModel)}
    reachable = {name: model for name, model in remote.items() if model.upstream in settings.upstreams}
    unknown = [name for name in settings.models if name not in reachable]
    if unknown or not reachable:
        wanted = ", ".join(unknown) or "any model"
        upstreams = ", ".join(sorted({model.upstream for model in remote.values()}))
        raise CatalogError(f"no upstream is set for {wanted}: give --upstreams NAME=URL, NAME being one of {upstreams}")
    if unused := settings.upstreams.keys() - {model.upstream for model in remote.values()}:
        raise CatalogError(f"no model of the catalog has the upstream {', '.join(sorted(unused))}")
    state = SharedState(RedisStore(parse_redis_url(settings.redis_url)) if settings.redis_url else None)
    hosted = {name: reachable[name] for name in settings.models or sorted(reachable)}
    access = {name: _access(name, settings, catalog, state) for name in {one.upstream for one in hosted.values()}}
    engines = [_engine(name, model, access[model.upstream], settings) for name, model in hosted.items()]
    application = build_application(engines, settings)

    async def close() -> None:
        await application.close()
        await state.close()

    return replace(application, close=close)


@dataclass(frozen=True)
class _Access:
    """What all models of an upstream share."""

    entry: UpstreamEntry
    upstream: Upstream
    limiter: Limiter
    spending: Spending
    slots: asyncio.Semaphore


def _access(name: str, settings: ProxySettings, catalog: Catalog, state: SharedState) -> _Access:
    entry = catalog.upstreams.get(name, UpstreamEntry())
    upstream = Upstream(
        name,
        settings.upstreams[name],
        read_key(name),
        timeout_seconds=settings.upstream_timeout_seconds,
        azure_api_version=entry.azure_api_version,
    )
    return _Access(
        entry,
        upstream,
        SharedLimiter(name, buckets(entry.requests_per_minute, entry.tokens_per_minute), state),
        Spending(name, entry.dollars_per_day, state),
        asyncio.Semaphore(entry.concurrent_calls),
    )


def packing_limits(entry: UpstreamEntry) -> UpstreamEntry:
    """Limits of a call, which may not be more than the limit of a minute lets through at once."""
    if not entry.tokens_per_minute:
        return entry
    most = min(entry.tokens_per_call, Bucket(entry.tokens_per_minute).burst)
    return entry.model_copy(update={"tokens_per_call": most})


def _engine(name: str, model: RemoteModel, access: _Access, settings: ProxySettings) -> UpstreamEngine:
    retries = Retries(settings.upstream_retries)
    calls = Calls(name, model, access.upstream, access.limiter, access.spending, retries)
    packers = {
        upstream_model: Packer(
            partial(calls.make, upstream_model),
            access.slots,
            packing_limits(access.entry),
            settings.upstream_packing_seconds,
        )
        for upstream_model in upstream_names(model)
    }
    return UpstreamEngine(calls, packers, load_tokenizer(model.tokenizer), settings.upstream_patience_seconds)
