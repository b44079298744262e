"""Which settings the server of each image has."""

from collections.abc import Iterable, Mapping

from pydantic_settings import BaseSettings

from embedscale.embedder.settings import EmbedderSettings
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy.settings import ProxySettings

SETTINGS: Mapping[str, type[BaseSettings]] = {
    "embedder-cpu": EmbedderSettings,
    "embedder-cuda": EmbedderSettings,
    "openai-proxy": ProxySettings,
    "openai-gateway": GatewaySettings,
    "evaluator": EvaluatorSettings,
}


def unknown(kind: type[BaseSettings], variables: Iterable[str]) -> list[str]:
    """Names of variables that are no setting of a server."""
    return [name for name in variables if name.removeprefix("EMBEDSCALE_").lower() not in kind.model_fields]
