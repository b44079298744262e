"""Rows of a data set on the wire."""

from embedscale.core.dataset import MemoryDataset
from embedscale.evaluator.convert_dataset import to_rows
from embedscale.v1 import evaluation_service_pb2 as pb

GRPC_DEFAULT_BYTES = 4 * 2**20


def test_long_documents_are_sent_in_messages_that_anyone_can_take() -> None:
    documents = {f"d{place:03}": "x" * size for place, size in enumerate([700_000] * 8 + [3_000_000] + [10] * 120)}
    dataset = MemoryDataset("memory:long", {}, documents, {})
    messages = list(to_rows(dataset, pb.DATASET_PART_DOCUMENTS))
    assert max(message.ByteSize() for message in messages) < GRPC_DEFAULT_BYTES
    assert max(len(message.texts) for message in messages) > 1
    assert {row.id: row.text for message in messages for row in message.texts} == documents
