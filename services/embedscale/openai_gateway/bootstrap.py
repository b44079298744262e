"""Names the gateway's concrete classes."""

from embedscale.client import AsyncEmbeddingClient
from embedscale.openai_gateway.application import application
from embedscale.openai_gateway.endpoints import Endpoints
from embedscale.openai_gateway.keys import read_keys
from embedscale.openai_gateway.server import HttpServer
from embedscale.openai_gateway.settings import GatewaySettings


def build(settings: GatewaySettings) -> HttpServer:
    """Build the server; it lives on the event loop that is running."""
    client = AsyncEmbeddingClient(settings.embedding_addresses, settings.client_options())
    endpoints = Endpoints(client, timeout_seconds=settings.timeout_seconds, max_bytes=settings.max_message_bytes)
    keys = read_keys(settings.api_keys_file) if settings.api_keys_file else ()
    return HttpServer(application(endpoints, keys), settings, client.close)
