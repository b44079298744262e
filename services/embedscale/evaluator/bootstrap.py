"""Names the evaluator's concrete classes."""

import grpc
from platformdirs import user_state_path

from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.evaluator.index import FlatIndex
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
    embedder = ClientTextEmbedder(settings.embedding_addresses)
    datasets = DatasetSources(settings.dataset_roots, settings.dataset_hosts, settings.dataset_max_bytes)
    store = _store(settings)
    jobs = EvaluationJobs(store)
    workers = Workers(
        store,
        Pipeline(datasets, embedder, FlatIndex),
        running=settings.running_evaluations,
        lease_seconds=settings.lease_seconds,
        retention=Retention(settings.kept_evaluations, settings.kept_seconds),
    )

    def register(server: grpc.aio.Server) -> None:
        # Abstract to the type checker alone: rpcs that are not overridden answer UNIMPLEMENTED.
        servicer = EvaluationServicer(jobs, datasets)  # type: ignore[abstract]
        add_EvaluationServiceServicer_to_server(servicer, server)

    async def start() -> None:
        await store.start()
        workers.start()

    async def drain() -> None:
        jobs.drain()
        await workers.drain()

    async def close() -> None:
        await store.close()
        await embedder.close()

    return Application(SERVICE_NAME, register, start, close, drain=drain)


def _store(settings: EvaluatorSettings) -> EvaluationStore:
    limits = QueueLimits(settings.queued_evaluations, settings.running_per_caller, settings.attempts_that_die)
    if settings.redis_url:
        return RedisEvaluations(parse_redis_url(settings.redis_url), limits, settings.lease_seconds)
    folder = settings.data_folder or user_state_path("embedscale")
    return SqliteEvaluations(folder / "evaluations.sqlite", limits)
