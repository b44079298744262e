"""`evalctl report`, opened in a real browser: whole, with the numbers of the evaluations, and asking for nothing."""

import asyncio
import json
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedscale.cli import results
from embedscale.client import AsyncEvaluationClient
from embedscale.evaluator import bootstrap, builtin
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.v1 import evaluation_service_pb2 as pb
from tests.chromium import CHROMIUM, Page, chromium_page
from tests.conftest import E5, MINILM, served
from tests.waiting import eventually

EVALCTL = Path(sys.executable).with_name("evalctl")
CHARTS = ["quality", "tradeoff", "sizes", "tokens", "truncation"]
HOSTILE = "</script><script>document.title = 'broken'</script><img src=x onerror=\"document.title = 'broken'\">"
OWN = {
    "queries": {"q1": "Where do cats sleep?", "q2": f"What do cows eat? {HOSTILE}"},
    "corpus": {"d1": "Cats sleep on sofas.", "d2": f"Cows eat grass. {HOSTILE}", "d3": "A stone does nothing. " * 80},
    "relevant_docs": {"q1": ["d1"], "q2": ["d3"]},
    "mode": "text",
}


def some_of_velmar() -> dict[str, Any]:
    """A quarter of the built-in set: the upstream is slow."""
    whole = builtin.load("builtin:velmar/en")
    corpus = dict(list(whole.corpus.items())[:12])
    relevant = {query: list(grades) for query, grades in whole.qrels.items() if set(grades) <= set(corpus)}
    return {
        "queries": {query: whole.query_texts[query] for query in relevant},
        "corpus": corpus,
        "relevant_docs": relevant,
    }


@dataclass
class Report:
    """A report, and the evaluations that it is about."""

    file: Path
    charts: Path
    evaluations: list[dict[str, Any]]
    compared: list[pb.PairwiseComparison]
    said: str


async def evalctl(*arguments: str | Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        EVALCTL, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await process.communicate()
    return process.returncode or 0, out.decode()


@pytest.fixture(scope="module")
async def evaluator(
    session_stack: AsyncExitStack, embedder: str, proxy: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    folder = tmp_path_factory.mktemp("evaluator")
    sets = {"english": some_of_velmar(), "own": OWN}
    for name, content in sets.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    settings = EvaluatorSettings(
        embedding_addresses=[embedder, proxy], dataset_roots=[folder], data_folder=folder / "kept", drain_seconds=0
    )
    address = await served(session_stack, bootstrap.build(settings), settings)
    async with AsyncEvaluationClient(address) as client:
        sweep = {"sweep_dimensions": (128,), "sweep_encodings": ("int8",)}
        for name in sets:
            for model, options in ((MINILM, sweep), (E5, {})):
                created = await client.create(model, str(folder / f"{name}.json"), **options)
                assert [event async for event in client.watch(created.name)][-1].state == pb.EVALUATION_STATE_SUCCEEDED
    return address


@pytest.fixture(scope="module")
async def report(evaluator: str, tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    file, charts = folder / "report.html", folder / "charts"
    code, said = await evalctl("report", "--out", file, "--charts", charts, "--evaluation-address", evaluator)
    assert code == 0, said
    async with AsyncEvaluationClient(evaluator) as client:
        found = [one async for one in client.list(state="succeeded")]
        english = [one for one in found if one.spec.dataset.endswith("english.json")]
        english.sort(key=lambda one: one.spec.model)
        compared = await client.compare([one.name for one in english])
    return Report(file, charts, [results.as_dict(one) for one in found], list(compared.pairs), said)


@pytest.fixture(scope="module")
async def page(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    if not CHROMIUM:
        pytest.skip("there is no chromium on this machine")
    async with chromium_page(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
async def test_it_opens_without_a_fault_or_a_request_and_fits_the_screen(
    report: Report, page: Page, width: int, dark: bool
) -> None:
    await page.open(report.file.as_uri(), width, dark=dark)
    assert page.faults == []
    assert page.requests == [report.file.as_uri()]
    assert await page.value("document.scrollingElement.scrollWidth") == width
    background = await page.value("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 23, 27)" if dark else "rgb(255, 255, 255)")


async def test_the_browser_itself_lets_nothing_out(report: Report, page: Page) -> None:
    await page.open(report.file.as_uri(), 1280)
    await page.value("void (new Image().src = 'http://127.0.0.1:9/x')")
    await eventually(lambda: "Content Security Policy" in str(page.faults), "nothing is refused")


async def test_it_prints_on_white(report: Report, page: Page) -> None:
    await page.open(report.file.as_uri(), 1280, dark=True, media="print")
    assert await page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


async def test_each_chart_is_drawn_and_described(report: Report, page: Page) -> None:
    await page.open(report.file.as_uri(), 390)
    drawn = await page.value(
        "[...document.querySelectorAll('figure svg')].map(svg => ({"
        "name: svg.closest('figure').id, width: svg.getBoundingClientRect().width, "
        "height: svg.getBoundingClientRect().height, marks: svg.querySelectorAll('use, path').length, "
        "words: svg.querySelectorAll('text').length, title: svg.querySelector('title').textContent, "
        "description: svg.querySelector('desc').textContent, "
        "smallest: Math.min(...[...svg.querySelectorAll('text')].map(text => text.getBoundingClientRect().height)), "
        "cut: [...svg.querySelectorAll('text')].filter(text => {"
        "const box = text.getBoundingClientRect(), whole = svg.getBoundingClientRect();"
        "return box.left < whole.left - 1 || box.right > whole.right + 1}).map(text => text.textContent)}))"
    )
    assert [one["name"] for one in drawn] == [f"chart-{name}" for name in CHARTS]
    for one in drawn:
        assert one["width"] > 300
        assert one["height"] > 100
        assert one["marks"] > 10
        assert one["words"] > 5
        assert one["smallest"] > 9, one
        assert one["cut"] == []
        assert one["title"]
        # A model whose vectors came from the cache for the most part has no measured speed.
        measured = (MINILM, E5) if one["name"] == "chart-tradeoff" else (MINILM,)
        assert any(model in one["description"] for model in measured)
    ids = await page.value("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(ids) == len(set(ids))


async def test_the_tables_have_the_numbers_of_the_evaluations(report: Report, page: Page) -> None:
    await page.open(report.file.as_uri(), 1280)
    rows = await page.value(
        "[...document.querySelectorAll('tr[data-evaluation]')].map(row => [row.dataset.evaluation, "
        "...[...row.querySelectorAll('data')].map(one => [one.value, one.textContent])])"
    )
    assert {name: numbers for name, *numbers in rows} == {
        one["name"]: [
            [repr(one["metrics"]["mrr@5"]), f"{one['metrics']['mrr@5']:.4f}"],
            *([repr(end), f"{end:.3f}"] for end in one["intervals"]["mrr@5"]),
        ]
        for one in report.evaluations
    }
    swept = {variant["metrics"]["mrr@5"] for one in report.evaluations for variant in one["variants"]}
    assert len(swept) > 2
    assert swept <= {float(value) for value in await numbers(page, "sizes")}
    (pair,) = report.compared
    assert {pair.difference, pair.lower, pair.upper, pair.p_value} <= {float(v) for v in await numbers(page, "quality")}
    embedded = json.loads(await page.value("document.getElementById('data').textContent"))
    found = [one for dataset in embedded["datasets"] for one in dataset["evaluations"]]
    by_name = {one["name"]: one for one in report.evaluations}
    assert len(found) == len(by_name)
    for one in found:
        assert by_name[one["name"]].items() <= one.items()


async def test_the_embedded_data_has_all_that_the_page_says(report: Report, page: Page) -> None:
    await page.open(report.file.as_uri(), 1280)
    recommendation = await page.value("document.querySelector('#recommendation p').textContent")
    embedded = json.loads(await page.value("document.getElementById('data').textContent"))
    assert embedded["recommendation"]["sentence"] == recommendation
    assert recommendation in report.said
    shown = await page.value("document.querySelector('#reproduce').textContent")
    for one in report.evaluations:
        assert one["fingerprint"] in shown
        assert one["dataset_digest"] in shown


async def test_texts_of_the_data_set_are_shown_and_do_nothing(report: Report, page: Page) -> None:
    await page.open(report.file.as_uri(), 1280)
    queries = await page.value("[...document.querySelectorAll('#hardest h4')].map(one => one.textContent)")
    assert OWN["queries"]["q2"] in queries
    assert HOSTILE in await page.value("document.querySelector('#hardest').textContent")
    assert await page.value("document.querySelectorAll('script').length") == 1
    assert await page.value("document.querySelectorAll('img').length") == 0
    assert (await page.value("document.title")).startswith("Which embedding model?")


def test_charts_are_also_files(report: Report) -> None:
    assert sorted(file.name for file in report.charts.iterdir()) == sorted(
        f"{name}.{kind}" for name in CHARTS for kind in ("png", "svg")
    )
    for name in CHARTS:
        assert (report.charts / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ElementTree.parse(report.charts / f"{name}.svg").getroot().tag.endswith("svg")


async def test_one_evaluation_is_not_compared_and_what_is_missing_is_said(
    report: Report, evaluator: str, tmp_path: Path
) -> None:
    one = next(one for one in report.evaluations if one["model"] == E5)
    where = ("--evaluation-address", evaluator, "--out", tmp_path / "one.html")
    code, said = await evalctl("report", one["name"], *where)
    assert (code, said.splitlines()[0]) == (
        0, f"Nothing can be recommended: no data set has two models to compare, only {E5}.",
    )  # fmt: skip
    assert await evalctl("report", "--metric", "mrr@7", *where) == (
        2, "evalctl: no evaluation with mrr@7 has succeeded: `evalctl run` starts one\n",
    )  # fmt: skip
    code, said = await evalctl("report", one["name"], "--metric", "mrr@7", *where)
    assert code == 2
    assert "has no mrr@7: it has" in said


async def numbers(page: Page, section: str) -> list[str]:
    return await page.value(f"[...document.querySelectorAll('#{section} data')].map(one => one.value)")
