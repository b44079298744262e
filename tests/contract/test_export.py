"""Exported evaluations are read by the tools that they are for."""

import json
from pathlib import Path

import pyarrow.parquet
import pytest
import pytrec_eval

from embedscale.cli.export_formats import FORMATS
from embedscale.client import AsyncEvaluationClient
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.contract.conftest import metric
from tests.contract.replicas import QUERIES, Replicas, ended
from tests.fakes.hash_engine import HASH

CUTOFF = 50


async def exported(
    client: AsyncEvaluationClient, evaluation: pb.Evaluation, kind: str, folder: Path
) -> tuple[list[str], Path]:
    path = folder / "exported"
    return [line async for line in FORMATS[kind](client, evaluation, path)], path


def by_trec_eval(run: Path, qrels: Path) -> float:
    with run.open() as ranked, qrels.open() as judged:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(judged), {"recip_rank"})
        ranks = evaluator.evaluate(pytrec_eval.parse_run(ranked))
    assert len(ranks) == QUERIES
    return sum(one["recip_rank"] for one in ranks.values()) / QUERIES


async def test_trec_eval_parquet_and_json_say_the_same(replicas: Replicas, tmp_path: Path) -> None:
    client, _ = await replicas.start()
    created = await client.create(HASH, replicas.dataset("exported"), cutoffs=[CUTOFF])
    evaluation = await ended(client, created.name)
    expected = metric(evaluation, "mrr", CUTOFF)
    assert expected > 0

    lines, path = await exported(client, evaluation, "trec", tmp_path)
    assert lines[:2] == [f"{path}.run", f"{path}.qrels"]
    assert "%20" in lines[2]  # the ids of this set have blanks
    assert by_trec_eval(Path(lines[0]), Path(lines[1])) == pytest.approx(expected, abs=1e-9)

    (file,), _ = await exported(client, evaluation, "parquet", tmp_path)
    table = pyarrow.parquet.read_table(file)
    rows = table.to_pylist()
    assert sum(1 / row["rank"] for row in rows if row["rank"]) / QUERIES == pytest.approx(expected, abs=1e-9)
    assert json.loads(table.schema.metadata[b"embedscale"])["name"] == evaluation.name

    (file,), _ = await exported(client, evaluation, "json", tmp_path)
    content = json.loads(Path(file).read_text())
    assert content["metrics"][f"mrr@{CUTOFF}"] == expected
    assert [row["query_id"] for row in content["query_results"]] == [row["query_id"] for row in rows]
    assert [event["sequence"] for event in content["events"]] == list(range(1, len(content["events"]) + 1))
