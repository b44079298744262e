"""Names the gateway's concrete classes."""

from embedscale.client import AsyncEmbeddingClient
from embedscale.openai_gateway.application import application
from embedscale.openai_gateway.endpoints import Endpoints
from embedscale.openai_gateway.server import HttpServer
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.servicekit.access import AccessLog


def build(settings: GatewaySettings) -> HttpServer:
    """Build the server; it lives on the event loop that is running."""
    client = AsyncEmbeddingClient(settings.embedding_addresses, settings.client_options())
    endpoints = Endpoints(client, timeout_seconds=settings.timeout_seconds, max_bytes=settings.max_message_bytes)
    access = AccessLog(settings.slow_call_seconds)
    return HttpServer(application(endpoints, settings.api_keys_file, access), settings, client.close)
