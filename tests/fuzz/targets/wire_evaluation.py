"""Raw bytes to EvaluationService through a real channel: an answer or a status; evaluations end, and none as INTERNAL.

The first byte chooses the method; 32 zeros in the rest stand for the id of an evaluation that has succeeded, and /DATA
for the folder of data.
"""

import json
import tempfile
from pathlib import Path
from random import Random

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator.bootstrap import build
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from tests.fakes.hash_engine import HASH, HashEngine
from tests.fuzz.mutating import mutated_message
from tests.fuzz.serving import Caller, served

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-"))
_DATA = _FOLDER / "data"
_SET = {
    "queries": {"q1": "Where do cats sleep?", "q2": "What do cows eat?"},
    "corpus": {"d1": "Cats sleep on sofas.", "d2": "Cows eat grass.", "d3": "Stones do nothing."},
    "relevant_docs": {"q1": ["d1"], "q2": ["d2"]},
}
_CHAT = {"base_url": "http://127.0.0.1:9/v1", "upstream_model": "chat", "timeout_seconds": 1, "patience_seconds": 0.1}
_ID = b"0" * 32
_FOLDER_NAME = b"/DATA"


def _address() -> str:
    """Serve an evaluator that reads one folder, over an embedder that it reaches."""
    _DATA.mkdir()
    (_DATA / "set.json").write_text(json.dumps(_SET))
    (_DATA / "page.md").write_text("# Cats\n\nCats sleep on sofas. They do so all day.\n")
    (_FOLDER / "chat.yaml").write_text(json.dumps({"models": {"chat": _CHAT}}))
    embedding = EmbeddingServerSettings(drain_seconds=0)
    settings = EvaluatorSettings(
        embedding_addresses=[served(lambda: build_application([HashEngine()], embedding), embedding)],
        embedder_patience_seconds=0,
        dataset_roots=[_DATA],
        data_folder=_FOLDER / "kept",
        chat_models_file=_FOLDER / "chat.yaml",
        chunk_tokenizer=HASH,
        kept_datasets=20,
        kept_evaluations=20,
        drain_seconds=0,
    )
    return served(lambda: build(settings), settings)


_CALLER = Caller(_address(), pb.DESCRIPTOR)
_NUMBERS = {method.name: number for number, method in enumerate(_CALLER.methods)}


def _ended(name: str) -> pb.Evaluation:
    """The evaluation, once it has ended."""
    for method, kind in (("WatchEvaluation", pb.WatchEvaluationRequest), ("GetEvaluation", pb.GetEvaluationRequest)):
        answer = _CALLER.call(_NUMBERS[method], kind(name=name).SerializeToString())
        assert answer.code is grpc.StatusCode.OK
    evaluation: pb.Evaluation = answer.responses[0].evaluation
    return evaluation


def _created() -> bytes:
    spec = {"model": HASH, "dataset": str(_DATA / "set.json")}
    request = json_format.ParseDict({"spec": spec}, pb.CreateEvaluationRequest()).SerializeToString()
    evaluation = _CALLER.call(_NUMBERS["CreateEvaluation"], request).responses[0].evaluation
    assert _ended(evaluation.name).state == pb.EVALUATION_STATE_SUCCEEDED
    return evaluation.name.removeprefix("evaluations/").encode()


_SUCCEEDED = [_created()]


def check(data: bytes) -> None:
    if not data:
        return
    answer = _CALLER.call(data[0], _placed(data[0], data[1:].replace(_ID, _SUCCEEDED[0])))
    if answer.method == "CreateEvaluation" and answer.code is grpc.StatusCode.OK:
        ended = _ended(answer.responses[0].evaluation.name)
        assert ended.error.reason != wire.ERROR_REASON_INTERNAL, ended.error.message
    if answer.method == "DeleteEvaluation" and answer.code is grpc.StatusCode.OK:
        _SUCCEEDED[0] = _created()
    if answer.method == "ListQueryResults" and answer.code is grpc.StatusCode.OK:
        assert {row.query_id for row in answer.responses[0].results} <= _SET["queries"].keys()


def _placed(method: int, data: bytes) -> bytes:
    """Put the folder of data, which has another name in each process, into a message that names it."""
    if _FOLDER_NAME not in data:
        return data
    try:
        text = json_format.MessageToJson(_CALLER.kind(method).FromString(data))
        named = text.replace(_FOLDER_NAME.decode(), str(_DATA))
        return json_format.Parse(named, _CALLER.kind(method)()).SerializeToString()
    except (DecodeError, json_format.Error):
        return data


def mutate(data: bytes, pick: Random) -> bytes | None:
    method = data[:1] if pick.random() < 0.9 else pick.randbytes(1)
    changed = mutated_message(data[1:], _CALLER.kind(method[0]), pick) if method else None
    return None if changed is None else method + changed
