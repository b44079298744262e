"""`python -m embedscale.servicekit.healthcheck HOST:PORT [SERVICE]` exits with 0 if a server answers SERVING."""

import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_SECONDS = 2.0
_DIRECTLY = [("grpc.enable_http_proxy", 0)]
"""A proxy of the environment is for upstreams and does not reach this container's own server."""


def is_serving(address: str, service: str = "") -> bool:
    """Whether the server at an address (host:port, in plain text) says that a service is SERVING; "" is all of it."""
    with grpc.insecure_channel(address, _DIRECTLY) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT_SECONDS)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    raise SystemExit(not is_serving(*sys.argv[1:]))
