"""Names the embedder's concrete classes."""

import torch

from embedscale.embedder.engine import TorchEngine
from embedscale.embedder.gpu_meter import watch_gpus
from embedscale.embedder.scheduler import QueuePolicy
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedder.telemetry import QUEUE_WAIT
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.catalog import Catalog, CatalogError
from embedscale.embedding.residency import Residency
from embedscale.servicekit.lifecycle import Application


def build(settings: EmbedderSettings, catalog: Catalog) -> Application:
    """Build the application. Raises CatalogError if a wanted model is not a local one of the catalog."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    device = best_device() if settings.device == "auto" else settings.device
    budget = settings.token_budget or (None if device == "cpu" else 16384)
    local = catalog.local_models(settings.models)
    names = settings.models or sorted(name for name, model in local.items() if not model.source.hub)
    not_hosted = [name for name in settings.preload if name not in names]
    if not_hosted:
        raise CatalogError(f"to be preloaded, and not hosted: {', '.join(not_hosted)}; hosted are: {', '.join(names)}")
    policy = QueuePolicy(settings.interactive_texts, settings.aging_seconds, settings.max_queued_tokens)
    engines = [TorchEngine(name, local[name], device=device, token_budget=budget, policy=policy) for name in names]
    watch_gpus()
    QUEUE_WAIT.set_function(lambda: max(engine.load.wait_seconds or 0.0 for engine in engines))
    residency = Residency(settings.memory_budget)
    hosted = [residency.host(engine) for engine in engines]
    return build_application(hosted, settings, settings.preload or residency.fitting() or names)


def best_device() -> str:
    """Name the fastest kind of device that torch finds."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
