"""A name server on loopback, as a cluster's is for headless Services: one name, whose addresses come and go."""

import socket
import threading

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

_SECONDS_TO_LIVE = 1


class NameServer:
    """Answers queries for `name` over UDP until it is closed; `addresses` are IPv4, and may be changed at any time."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.addresses: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def target(self, port: int) -> str:
        """Address for gRPC, which asks this server for it."""
        host, own_port = self._socket.getsockname()
        return f"dns://{host}:{own_port}/{self.name}:{port}"

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _answer(self) -> None:
        while True:
            query, caller = self._socket.recvfrom(4096)
            if not query:
                return
            self._socket.sendto(self._response(query), caller)

    def _response(self, query: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.flags |= dns.flags.AA
        (question,) = response.question
        is_asked = question.rdtype == dns.rdatatype.A and str(question.name).rstrip(".") == self.name
        if is_asked and self.addresses:
            rows = dns.rrset.from_text(question.name, _SECONDS_TO_LIVE, "IN", "A", *self.addresses)
            response.answer.append(rows)
        return response.to_wire()
