"""Data sets on the wire: where they may come from, and what is said of those that are not right."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from embedscale.client import AsyncEvaluationClient, InvalidArgument, NotFound, PermissionDenied
from embedscale.v1 import evaluation_service_pb2 as pb
from embedscale.v1 import types_pb2 as wire
from tests.conftest import E5, MINILM
from tests.contract.conftest import SMALL, finished, metric


async def test_a_data_set_comes_from_a_path_a_file_uri_or_a_url(
    evaluations: AsyncEvaluationClient, data: Path, website: str
) -> None:
    digests = set()
    for uri in (str(data / "small.json"), (data / "small.json").as_uri(), f"{website}/small.json"):
        digests.add((await finished(evaluations, MINILM, uri)).result.dataset_digest)
        digests.add((await evaluations.dataset(uri)).digest)
    assert len(digests) == 1


def variant(**changes: object) -> bytes:
    return json.dumps(SMALL | changes).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"[]", "an unknown format"),
        (variant(queries={}), "queries is empty"),
        (variant(relevant_docs={"q1": ["d1"], "q2": ["nothing"]}), "unknown document 'nothing'"),
        (variant(relevant_docs={"q1": ["d1"]}), "lacks query 'q2'"),
        (b"\xff\xfe", "not JSON"),
        (b" " * 10**6 + b"{}", "larger than the limit"),
    ],
)
async def test_an_invalid_data_set_fails_with_the_fault(
    evaluations: AsyncEvaluationClient, data: Path, content: bytes, said: str
) -> None:
    path = data / "bad.json"
    path.write_bytes(content)
    evaluation = await finished(evaluations, MINILM, str(path))
    assert evaluation.state == pb.EVALUATION_STATE_FAILED
    assert evaluation.error.reason == wire.ERROR_REASON_DATASET_INVALID
    assert said in evaluation.error.message
    with pytest.raises(InvalidArgument, match=r"bad\.json"):
        await evaluations.dataset(str(path))


async def test_a_data_set_that_is_not_there_or_not_allowed_says_so(
    evaluations: AsyncEvaluationClient, data: Path, website: str
) -> None:
    for uri in (str(data / "none.json"), f"{website}/none.json", "ftp://127.0.0.1/x", "builtin:nothing"):
        with pytest.raises(NotFound):
            await evaluations.dataset(uri)
    (data / "link.json").symlink_to("/etc/hostname")
    for uri in ("/etc/hostname", str(data / ".." / ".." / "x"), str(data / "link.json"), "http://localhost:1/x"):
        with pytest.raises(PermissionDenied):
            await evaluations.dataset(uri)


async def test_known_data_sets_are_listed_before_the_imported_ones(
    evaluations: AsyncEvaluationClient, data: Path
) -> None:
    imported = (await evaluations.import_dataset(str(data / "small.json"))).dataset
    datasets = await evaluations.datasets()
    built_in = datasets[:5]
    assert [dataset.uri for dataset in built_in] == [f"builtin:velmar/{tag}" for tag in ("en", "fr", "cs", "hu", "ko")]
    assert {(dataset.query_count, dataset.document_count) for dataset in built_in} == {(96, 48)}
    assert len({dataset.digest for dataset in built_in}) == 5
    assert imported in datasets[5:]


async def test_an_imported_set_is_evaluated_by_its_digest(evaluations: AsyncEvaluationClient, data: Path) -> None:
    path = data / "passing.json"
    path.write_bytes(variant())
    imported = (await evaluations.import_dataset(str(path))).dataset
    path.unlink()
    assert imported.uri == f"dataset:{imported.digest}"
    assert await evaluations.dataset(imported.uri) == imported
    evaluation = await finished(evaluations, MINILM, imported.uri)
    assert evaluation.result.dataset_digest == imported.digest
    assert metric(evaluation, "mrr", 5) == 1.0


async def test_a_lenient_import_tells_what_it_left_out(evaluations: AsyncEvaluationClient, data: Path) -> None:
    path = data / "faulty.json"
    path.write_bytes(variant(corpus={**SMALL["corpus"], "d4": "", "d5": 7}))
    with pytest.raises(InvalidArgument, match=r"faulty\.json: corpus\['d4'\]: the text is empty"):
        await evaluations.import_dataset(str(path))
    imported = await evaluations.import_dataset(str(path), lenient=True)
    assert dict(imported.dataset.skipped) == {"empty_text": 1, "wrong_type": 1}
    assert [fault.place for fault in imported.faults] == ["faulty.json: corpus['d4']", "faulty.json: corpus['d5']"]
    assert imported.dataset.document_count == 3
    assert (await finished(evaluations, MINILM, imported.dataset.uri)).state == pb.EVALUATION_STATE_SUCCEEDED


async def test_an_unanswered_query_is_kept_counted_and_scored_0(evaluations: AsyncEvaluationClient, data: Path) -> None:
    rows = [{"query": "Where do cats sleep?", "positives": ["Cats sleep on sofas."]},
            {"query": "Who sings?", "positives": [], "negatives": ["Stones do nothing."]}]  # fmt: skip
    path = data / "unanswered.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = await evaluations.import_dataset(str(path))
    assert imported.dataset.unanswered_count == 1
    counts = {finding.kind: finding.count for finding in imported.audit.findings}
    assert counts["unanswered_queries"] == 1
    assert metric(await finished(evaluations, MINILM, str(path)), "mrr", 5) == 0.5


async def test_an_audit_counts_the_tokens_of_a_model(evaluations: AsyncEvaluationClient, data: Path) -> None:
    path = data / "long.json"
    path.write_bytes(variant(corpus={**SMALL["corpus"], "d3": "stone " * 510}))
    audit = (await evaluations.import_dataset(str(path), model=MINILM)).audit
    assert (audit.tokens.model, audit.tokens.max_tokens, audit.tokens.windows) == (MINILM, 256, True)
    assert audit.tokens.document_tokens.maximum == 512
    assert audit.tokens.document_tokens.median == 8
    assert audit.tokens.cut_share == pytest.approx(256 / (3 * audit.tokens.document_tokens.mean))
    finding = next(finding for finding in audit.findings if finding.kind == "truncated_documents")
    assert (finding.count, finding.total) == (1, 3)
    assert list(finding.examples[0].ids) == ["d3"]
    assert "512 tokens, and the model takes 256" in finding.examples[0].excerpt
    with pytest.raises(InvalidArgument, match="tokenizer is not on this server"):
        await evaluations.import_dataset(str(path), model=E5)
    with pytest.raises(NotFound, match="no server lists the model"):
        await evaluations.import_dataset(str(path), model="nothing")


async def evalctl(address: str, *arguments: str) -> tuple[int, str, str]:
    pipe = asyncio.subprocess.PIPE
    command = (sys.executable, "-m", "embedscale.cli", "datasets", *arguments, "--evaluation-address", address)
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_the_command_lists_shows_imports_and_audits(evaluator: str, data: Path) -> None:
    code, out, err = await evalctl(evaluator, "list")
    assert (code, err) == (0, "")
    assert out.split("\n")[1].split()[0] == "builtin:velmar/en"
    code, out, _ = await evalctl(evaluator, "show", "builtin:velmar/hu", "-o", "json")
    shown = json.loads(out)
    assert (code, shown["query_count"], shown["languages"], shown["skipped"]) == (0, 96, ["hu"], {})
    path = data / "commanded.json"
    path.write_bytes(variant(corpus={**SMALL["corpus"], "d4": "", "d3": "stone " * 510}))
    code, _, err = await evalctl(evaluator, "import", str(path))
    assert code == 2
    assert "commanded.json: corpus['d4']: the text is empty" in err
    code, out, err = await evalctl(evaluator, "import", str(path), "--lenient")
    assert (code, err) == (0, "")
    assert "left out: 1 empty_text" in out
    assert "near duplicate queries" in out
    code, out, _ = await evalctl(evaluator, "import", str(path), "--lenient", "-o", "json")
    assert (code, json.loads(out)["dataset"]["skipped"]) == (0, {"empty_text": 1})


async def test_the_command_says_what_cutting_costs_and_which_sets_cannot_be_compared(
    evaluator: str, data: Path
) -> None:
    path = data / "audited.json"
    path.write_bytes(variant(corpus={**SMALL["corpus"], "d2": "stone " * 300 + "Cows eat grass. " * 60}))
    sets = (str(path), "builtin:velmar/en")
    code, out, err = await evalctl(evaluator, "audit", *sets, "--model", MINILM)
    assert code == 0, err
    assert "pools of 3, 48 documents: the scores of these sets cannot be compared with each other" in out
    assert f"{path}: MRR@5 is " in out
    code, out, _ = await evalctl(evaluator, "audit", *sets, "--model", MINILM, "-o", "json")
    said = json.loads(out)
    assert said["same_pool_size"] is False
    cost = said["truncation_costs"][str(path)]
    assert cost["cost"] == pytest.approx(cost["mrr@5_windows"] - cost["mrr@5_cut"])
    assert said["audits"][str(path)]["tokens"]["max_tokens"] == 256
    assert said["audits"]["builtin:velmar/en"]["findings"]["truncated_documents"]["count"] == 0


async def test_texts_are_read_by_id(evaluations: AsyncEvaluationClient, data: Path) -> None:
    own = str(data / "small.json")
    found = await evaluations.texts(own, queries=["q2", "none"], documents=["d3", "d1"], max_characters=9)
    assert dict(found.queries) == {"q2": SMALL["queries"]["q2"][:9]}
    assert dict(found.documents) == {name: SMALL["corpus"][name][:9] for name in ("d1", "d3")}
    imported = await evaluations.import_dataset(own)
    whole = await evaluations.texts(imported.dataset.uri, documents=["d1"])
    assert whole.documents["d1"] == SMALL["corpus"]["d1"]


async def test_not_too_many_texts_are_read_at_once(evaluations: AsyncEvaluationClient) -> None:
    built_in = "builtin:velmar/en"
    with pytest.raises(InvalidArgument) as many:
        await evaluations.texts(built_in, queries=["q"] * 250, documents=["d"] * 251)
    assert many.value.field == "document_ids"
    with pytest.raises(InvalidArgument) as long:
        await evaluations.texts(built_in, queries=["q"], max_characters=1001)
    assert long.value.field == "max_characters"
    with pytest.raises(NotFound):
        await evaluations.texts("builtin:nothing", queries=["q"])
