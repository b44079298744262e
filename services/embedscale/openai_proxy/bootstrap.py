"""Names the proxy's concrete classes."""

import os
import re

from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog, CatalogError, RemoteModel
from embedscale.openai_proxy.engine import UpstreamEngine
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.openai_proxy.upstream import Upstream
from embedscale.servicekit.lifecycle import Application

_NO_KEY = "none"


def build(settings: ProxySettings, catalog: Catalog) -> Application:
    """Build the application. Raises CatalogError if a wanted model has no upstream here, or none is left to host."""
    remote = {name: model for name, model in catalog.models.items() if isinstance(model, RemoteModel)}
    reachable = {name: model for name, model in remote.items() if model.upstream in settings.upstreams}
    unknown = [name for name in settings.models if name not in reachable]
    if unknown or not reachable:
        wanted = ", ".join(unknown) or "any model"
        upstreams = ", ".join(sorted({model.upstream for model in remote.values()}))
        raise CatalogError(f"no upstream is set for {wanted}: give --upstreams NAME=URL, NAME being one of {upstreams}")
    engines = [_engine(name, reachable[name], settings) for name in settings.models or sorted(reachable)]
    return build_application(engines, settings)


def _engine(name: str, model: RemoteModel, settings: ProxySettings) -> UpstreamEngine:
    upstream = Upstream(
        model.upstream,
        settings.upstreams[model.upstream],
        os.environ.get(key_variable(model.upstream)) or _NO_KEY,
        timeout_seconds=settings.upstream_timeout_seconds,
        max_retries=settings.upstream_retries,
    )
    return UpstreamEngine(name, model, upstream, concurrent_calls=settings.upstream_concurrent_calls)


def key_variable(upstream: str) -> str:
    """Environment variable that holds the key of an upstream."""
    return "EMBEDSCALE_UPSTREAM_KEY_" + re.sub(r"\W", "_", upstream).upper()
