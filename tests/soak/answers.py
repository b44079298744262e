"""What a right answer is: its shape, finite numbers, and for a known text the very bytes of the first answer."""

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from embedscale.v1 import embedding_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire

_BITS = {wire.ENCODING_FLOAT16: 16, wire.ENCODING_INT8: 8, wire.ENCODING_BINARY: 1}
_FLOATS = {wire.ENCODING_UNSPECIFIED: "<f4", wire.ENCODING_FLOAT32: "<f4", wire.ENCODING_FLOAT16: "<f2"}
Key = tuple[object, ...]


@dataclass
class Answers:
    """Remembers the first answer for each known text in each form, and its tokens; counts comparisons."""

    known: Collection[str]
    long: Collection[str]
    first: dict[Key, object] = field(default_factory=dict)
    compared: int = 0

    def check(self, request: pb.EmbedRequest, response: pb.EmbedResponse, model: pb.Model) -> None:
        """Raise AssertionError unless it answers the request."""
        texts = [given.text for given in request.inputs]
        width = request.dimensions or model.dimensions
        size = -(-width * _BITS.get(request.encoding, 32) // 8)
        assert (response.dimensions, len(response.inputs)) == (width, len(texts))
        assert len(response.embeddings) == len(texts) * size
        if kind := _FLOATS.get(request.encoding):
            self._numbers(np.frombuffer(response.embeddings, kind).reshape(len(texts), width).astype(float), model)
        rows = [response.embeddings[at : at + size] for at in range(0, len(response.embeddings), size)]
        assert len(dict(zip(texts, rows, strict=True))) == len(set(zip(texts, rows, strict=True)))
        windows = request.truncation == wire.TRUNCATION_WINDOWS
        self.same(response.fingerprint, "fingerprint", request.model, windows)
        for text, row, facts in zip(texts, rows, response.inputs, strict=True):
            self.row(row, text, request.model, windows, width, request.encoding)
            if facts.HasField("token_count"):
                self.tokens(facts.token_count, text, request.model)
            assert facts.truncated == (text in self.long and request.truncation == wire.TRUNCATION_END)

    def row(
        self, row: bytes, text: str, model: str, windows: bool, width: int, encoding: int = wire.ENCODING_FLOAT32
    ) -> None:
        """Windows have a vector space of their own."""
        if text in self.known or text in self.long:
            self.same(row, "row", text, model, windows, width, encoding or wire.ENCODING_FLOAT32)

    def tokens(self, count: int, text: str, model: str) -> None:
        if text in self.known or text in self.long:
            self.same(count, "tokens", text, model)

    def same(self, value: object, *key: object) -> None:
        """Raise AssertionError unless this is what the first answer had."""
        known = key in self.first
        assert self.first.setdefault(key, value) == value, f"another answer than the first for {str(key)[:200]}"
        self.compared += known

    @staticmethod
    def _numbers(rows: np.ndarray, model: pb.Model) -> None:
        assert np.isfinite(rows).all()
        if model.normalized:
            assert np.abs(np.linalg.norm(rows, axis=1) - 1).max() < 0.01
