"""Names the evaluator's concrete classes."""

import asyncio
from pathlib import Path

import grpc
from platformdirs import user_state_path

from embedscale.evaluator.datasets import cloud, hub, languages
from embedscale.evaluator.datasets.local_files import LocalFiles
from embedscale.evaluator.datasets.location import FILE_SCHEME, WEB_SCHEMES, Origin
from embedscale.evaluator.datasets.store import DatasetStore
from embedscale.evaluator.datasets.website import Website
from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.evaluator.imports import DatasetImports
from embedscale.evaluator.index import build_index
from embedscale.evaluator.jobs import EvaluationJobs
from embedscale.evaluator.pipeline import Pipeline
from embedscale.evaluator.redis_evaluations import RedisEvaluations
from embedscale.evaluator.servicer import SERVICE_NAME, EvaluationServicer
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.evaluator.sources import DatasetSources
from embedscale.evaluator.sqlite_evaluations import SqliteEvaluations
from embedscale.evaluator.store import EvaluationStore, QueueLimits
from embedscale.evaluator.worker import Retention, Workers
from embedscale.servicekit.lifecycle import Application
from embedscale.servicekit.redis_url import parse_redis_url
from embedscale.v1.evaluation_service_pb2_grpc import add_EvaluationServiceServicer_to_server


def build(settings: EvaluatorSettings) -> Application:
    """Build the application."""
    embedder = ClientTextEmbedder(
        settings.embedding_addresses, settings.embedder_patience_seconds, settings.client_options()
    )
    folder = settings.data_folder or user_state_path("embedscale")
    datasets = build_sources(settings, folder / "datasets")
    store = _store(settings, folder)
    jobs = EvaluationJobs(store)
    workers = Workers(
        store,
        Pipeline(datasets, embedder, build_index),
        running=settings.running_evaluations,
        lease_seconds=settings.lease_seconds,
        retention=Retention(settings.kept_evaluations, settings.kept_seconds),
    )

    def register(server: grpc.aio.Server) -> None:
        # Abstract to the type checker alone: rpcs that are not overridden answer UNIMPLEMENTED.
        servicer = EvaluationServicer(jobs, datasets, DatasetImports(datasets, embedder))  # type: ignore[abstract]
        add_EvaluationServiceServicer_to_server(servicer, server)

    async def start() -> None:
        await asyncio.to_thread(languages.identifier)  # else the first import would wait for it
        await store.start()
        workers.start()

    async def drain() -> None:
        jobs.drain()
        await workers.drain()

    async def close() -> None:
        await store.close()
        await embedder.close()

    return Application(SERVICE_NAME, register, start, close, drain=drain)


def build_sources(settings: EvaluatorSettings, folder: Path) -> DatasetSources:
    """Every kind of place that data sets come from, by scheme; they are imported into `folder`."""
    hosts, limit = settings.dataset_hosts, settings.dataset_max_bytes
    origins: dict[str, Origin] = {FILE_SCHEME: LocalFiles(settings.dataset_roots), hub.SCHEME: hub.Hub(hosts)}
    website = Website(hosts, settings.dataset_private_hosts, limit, settings.dataset_proxy)
    origins |= dict.fromkeys(WEB_SCHEMES, website)
    origins |= dict.fromkeys(cloud.SCHEMES, cloud.Buckets(hosts, limit))
    return DatasetSources(DatasetStore(folder, settings.kept_datasets), origins, limit)


def _store(settings: EvaluatorSettings, folder: Path) -> EvaluationStore:
    limits = QueueLimits(settings.queued_evaluations, settings.running_per_caller, settings.attempts_that_die)
    if settings.redis_url:
        return RedisEvaluations(parse_redis_url(settings.redis_url), limits, settings.lease_seconds)
    return SqliteEvaluations(folder / "evaluations.sqlite", limits)
