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
from embedscale.evaluator.documents.reading import DocumentReader
from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.evaluator.generation.chat import OpenAIChat
from embedscale.evaluator.generation.chat_catalog import read_chat_models
from embedscale.evaluator.generation.filters.round_trip import Retriever
from embedscale.evaluator.generation.generator import DatasetGenerator
from embedscale.evaluator.generation.ledger import Ledger
from embedscale.evaluator.generation.templates import Templates
from embedscale.evaluator.generation.tools import Tools
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
from embedscale.servicekit.keys import CHAT_KEYS, read_key
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
    imports = DatasetImports(datasets, embedder)
    generator = _generator(settings, folder, embedder, datasets, imports)
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
        add_EvaluationServiceServicer_to_server(EvaluationServicer(jobs, datasets, imports, generator), server)

    async def start() -> None:
        await asyncio.to_thread(languages.identifier)  # else the first import would wait for it
        await store.start()
        workers.start()

    async def drain() -> None:
        jobs.drain()
        generator.drain()
        await workers.drain()

    async def close() -> None:
        await store.close()
        await generator.close()
        await embedder.close()

    return Application(SERVICE_NAME, register, start, close, drain=drain)


def build_sources(settings: EvaluatorSettings, folder: Path) -> DatasetSources:
    """Every kind of place that data sets come from, by scheme; they are imported into `folder`."""
    hosts, limit = settings.dataset_hosts, settings.dataset_max_bytes
    origins = _readable(settings) | {hub.SCHEME: hub.Hub(hosts)}
    origins |= dict.fromkeys(cloud.SCHEMES, cloud.Buckets(hosts, limit))
    return DatasetSources(DatasetStore(folder, settings.kept_datasets), origins, limit)


def _readable(settings: EvaluatorSettings) -> dict[str, Origin]:
    """Places that both data sets and documents come from."""
    website = Website(
        settings.dataset_hosts, settings.dataset_private_hosts, settings.dataset_max_bytes, settings.dataset_proxy
    )
    return {FILE_SCHEME: LocalFiles(settings.dataset_roots), **dict.fromkeys(WEB_SCHEMES, website)}


def _generator(
    settings: EvaluatorSettings,
    folder: Path,
    embedder: ClientTextEmbedder,
    datasets: DatasetSources,
    imports: DatasetImports,
) -> DatasetGenerator:
    """Raises BadConfiguration with what is wrong in the files that the settings name."""
    entries = read_chat_models(settings.chat_models_file)
    tools = Tools(
        reader=lambda: DocumentReader(_readable(settings)),
        counter=embedder,
        models={name: OpenAIChat(name, entry, read_key(name, CHAT_KEYS)) for name, entry in entries.items()},
        templates=Templates(settings.prompts_folder),
        ledger=Ledger(folder / "generation" / "answers.sqlite", settings.kept_answers_seconds),
        retriever=Retriever(embedder, build_index),
        store=datasets.store,
        imports=imports,
    )
    return DatasetGenerator(tools, settings.chunk_tokenizer)


def _store(settings: EvaluatorSettings, folder: Path) -> EvaluationStore:
    limits = QueueLimits(settings.queued_evaluations, settings.running_per_caller, settings.attempts_that_die)
    if settings.redis_url:
        return RedisEvaluations(parse_redis_url(settings.redis_url), limits, settings.lease_seconds)
    return SqliteEvaluations(folder / "evaluations.sqlite", limits)
