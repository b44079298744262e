"""Names the evaluator's concrete classes."""

import grpc
from platformdirs import user_cache_path

from embedscale.evaluator.datasets import cloud, hub
from embedscale.evaluator.datasets.local_files import LocalFiles
from embedscale.evaluator.datasets.location import FILE_SCHEME, WEB_SCHEMES, Origin
from embedscale.evaluator.datasets.store import DatasetStore
from embedscale.evaluator.datasets.website import Website
from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.evaluator.imports import DatasetImports
from embedscale.evaluator.index import FlatIndex
from embedscale.evaluator.jobs import EvaluationJobs
from embedscale.evaluator.pipeline import Pipeline
from embedscale.evaluator.servicer import SERVICE_NAME, EvaluationServicer
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.evaluator.sources import DatasetSources
from embedscale.servicekit.lifecycle import Application
from embedscale.v1.evaluation_service_pb2_grpc import add_EvaluationServiceServicer_to_server


def build(settings: EvaluatorSettings) -> Application:
    """Build the application."""
    embedder = ClientTextEmbedder(settings.embedding_addresses)
    datasets = build_sources(settings)
    pipeline = Pipeline(datasets, embedder, FlatIndex)
    jobs = EvaluationJobs(
        pipeline,
        running=settings.running_evaluations,
        queued=settings.queued_evaluations,
        kept=settings.kept_evaluations,
    )

    def register(server: grpc.aio.Server) -> None:
        # Abstract to the type checker alone: rpcs that are not overridden answer UNIMPLEMENTED.
        servicer = EvaluationServicer(jobs, datasets, DatasetImports(datasets, embedder))  # type: ignore[abstract]
        add_EvaluationServiceServicer_to_server(servicer, server)

    async def close() -> None:
        await jobs.close()
        await embedder.close()

    return Application(SERVICE_NAME, register, close=close)


def build_sources(settings: EvaluatorSettings) -> DatasetSources:
    """Every kind of place that data sets come from, by scheme."""
    hosts, limit = settings.dataset_hosts, settings.dataset_max_bytes
    origins: dict[str, Origin] = {FILE_SCHEME: LocalFiles(settings.dataset_roots), hub.SCHEME: hub.Hub(hosts)}
    origins |= dict.fromkeys(WEB_SCHEMES, Website(hosts, limit))
    origins |= dict.fromkeys(cloud.SCHEMES, cloud.Buckets(hosts, limit))
    folder = settings.data_folder or user_cache_path("embedscale") / "datasets"
    return DatasetSources(DatasetStore(folder, settings.kept_datasets), origins, limit)
