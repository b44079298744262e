"""Names the evaluator's concrete classes."""

import grpc

from embedscale.evaluator.embedding_client import ClientTextEmbedder
from embedscale.evaluator.index import build_index
from embedscale.evaluator.jobs import EvaluationJobs
from embedscale.evaluator.pipeline import Pipeline
from embedscale.evaluator.servicer import SERVICE_NAME, EvaluationServicer
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.evaluator.sources import DatasetSources
from embedscale.servicekit.lifecycle import Application
from embedscale.v1.evaluation_service_pb2_grpc import add_EvaluationServiceServicer_to_server


def build(settings: EvaluatorSettings) -> Application:
    """Build the application."""
    embedder = ClientTextEmbedder(settings.embedding_addresses, settings.embedder_patience_seconds)
    datasets = DatasetSources(settings.dataset_roots, settings.dataset_hosts, settings.dataset_max_bytes)
    pipeline = Pipeline(datasets, embedder, build_index)
    jobs = EvaluationJobs(
        pipeline,
        running=settings.running_evaluations,
        queued=settings.queued_evaluations,
        kept=settings.kept_evaluations,
    )

    def register(server: grpc.aio.Server) -> None:
        # Abstract to the type checker alone: rpcs that are not overridden answer UNIMPLEMENTED.
        servicer = EvaluationServicer(jobs, datasets)  # type: ignore[abstract]
        add_EvaluationServiceServicer_to_server(servicer, server)

    async def close() -> None:
        await jobs.close()
        await embedder.close()

    return Application(SERVICE_NAME, register, close=close)
