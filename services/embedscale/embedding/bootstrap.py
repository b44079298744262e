"""Puts an EmbeddingService together from engines and settings."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import grpc

from embedscale.core.ports import Engine
from embedscale.embedding.admission import Admission
from embedscale.embedding.cache_admin import CacheAdmin
from embedscale.embedding.cache_bootstrap import build_cache
from embedscale.embedding.cache_servicer import CACHE_SERVICE_NAME, CacheServicer
from embedscale.embedding.catalog import Catalog, load_catalog
from embedscale.embedding.read_through import ReadThrough
from embedscale.embedding.registry import ModelRegistry
from embedscale.embedding.service import EmbeddingService
from embedscale.embedding.servicer import SERVICE_NAME, EmbeddingServicer
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.servicekit.lifecycle import Application, run
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS, BadConfiguration, load_settings
from embedscale.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from embedscale.v1.embedding_service_pb2_grpc import add_EmbeddingServiceServicer_to_server

SettingsT = TypeVar("SettingsT", bound=EmbeddingServerSettings)


def serve(program: str, kind: type[SettingsT], build: Callable[[SettingsT, Catalog], Application]) -> None:
    """Read settings and catalog, and run the server that `build` makes of them until it is told to stop."""
    settings = load_settings(kind, program)
    try:
        catalog = load_catalog(settings.catalog)
        run(lambda: build(settings, catalog), settings)
    except BadConfiguration as error:
        sys.stderr.write(f"{program}: {error}\n")
        raise SystemExit(EXIT_BAD_SETTINGS) from None


def build_application(
    engines: Sequence[Engine], settings: EmbeddingServerSettings, preload: Sequence[str] | None = None
) -> Application:
    """Wire engines, cache and limits into the application that a server runs; `preload` is by default all models."""
    cache, leases = build_cache(settings)
    registry = ModelRegistry(engines, preload)
    vectors = ReadThrough(cache, leases)
    admission, most = Admission(settings.max_queued_inputs), settings.max_text_characters
    service = EmbeddingService(registry, vectors, admission, settings.max_inputs, most)

    def register(server: grpc.aio.Server) -> None:
        add_EmbeddingServiceServicer_to_server(EmbeddingServicer(service), server)
        add_CacheServiceServicer_to_server(CacheServicer(CacheAdmin(cache, registry)), server)

    async def start() -> None:
        await cache.start()
        await registry.start()

    async def close() -> None:
        await registry.close()
        await cache.close()

    def parts() -> Mapping[str, bool]:
        return {f"models/{name}": ready for name, ready in registry.readiness().items()}

    return Application(SERVICE_NAME, register, start, close, (CACHE_SERVICE_NAME,), parts=parts)
