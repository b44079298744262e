"""What serving costs over computing, and how it compares with `infinity_emb`, a server of the same weights over HTTP.

    python -m benchmarks.serving [MODEL] [--rounds 5] [--seconds 4] [--no-peer] [--quick] [--json FILE]

Both servers run in processes of their own, without a cache; the callers are this process. Ours is called with the
Python client, the peer with aiohttp. All measurements alternate within a round, so that they see the same machine; the
tables give the median of the rounds and their range. A p99 is that of the answers of all rounds together.
"""

import asyncio
import base64
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp
import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.common import OURS, Figures, Goal, Report, Runs, arguments, embedder, median, ratios, spread, table
from benchmarks.infinity import NAME as PEER
from benchmarks.infinity import VERSION, infinity
from embedscale.client import AsyncEmbeddingClient
from embedscale.core.embedding import Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.weights import locate
from embedscale.embedding.catalog import LocalModel, load_catalog
from embedscale.servicekit.garbage import spare_survivors
from embedscale.v1 import embedding_service_pb2 as pb

CALLERS, BATCHES = (1, 8, 32), (1, 32)
TEXTS = [f"Which office decides on appeal number {number} of the harbour council?" for number in range(32 * 32)]

Call = Callable[[Sequence[str]], Awaitable[np.ndarray]]
"""From n texts to vectors, float32 (n, 384)."""


class Cell:
    """So many callers of so many texts each: rates of the rounds, and how long each answer took."""

    def __init__(self, callers: int, batch: int) -> None:
        self.callers, self.batch = callers, batch
        self.rates: list[float] = []
        self.seconds: list[float] = []

    @property
    def what(self) -> str:
        """What is done."""
        return f"{self.callers} at once, {self.batch} a request"

    async def measure(self, call: Call, seconds: float) -> None:
        """Let the callers, each with one request at a time, go on for some seconds."""
        end = time.perf_counter() + seconds
        answered: list[float] = []

        async def caller(number: int) -> None:
            texts = TEXTS[number * self.batch : (number + 1) * self.batch]
            while (sent := time.perf_counter()) < end:
                vectors = await call(texts)
                assert len(vectors) == len(texts)
                answered.append(time.perf_counter() - sent)

        started = time.perf_counter()
        await asyncio.gather(*map(caller, range(self.callers)))
        self.rates.append(self.batch * len(answered) / (time.perf_counter() - started))
        self.seconds += answered

    def percentile(self, share: int) -> float:
        """Milliseconds within which such a share, in percent, was answered."""
        return 1000 * float(np.percentile(self.seconds, share))


def ours(client: AsyncEmbeddingClient, model: str) -> Call:
    """Calls of our server."""

    async def call(texts: Sequence[str]) -> np.ndarray:
        return (await client.embed(texts, model=model, input_type="query")).vectors

    return call


def peer(session: aiohttp.ClientSession, url: str, prompt: str) -> Call:
    """Calls of the peer, in the shortest form that it has for vectors; it puts no prompt before a text."""

    async def call(texts: Sequence[str]) -> np.ndarray:
        asked = {"model": PEER, "input": [prompt + text for text in texts], "encoding_format": "base64"}
        async with session.post(f"{url}/embeddings", json=asked) as response:
            rows = (await response.json())["data"]
        return np.stack([np.frombuffer(base64.b64decode(row["embedding"]), np.float32) for row in rows])

    return call


def in_process(work: Callable[[Sequence[str]], object], batch: int, seconds: float, *, calls: int = 0) -> Cell:
    """Call a model in this process for some seconds, or so many times."""
    cell = Cell(1, batch)
    started = time.perf_counter()
    while len(cell.seconds) < calls or (not calls and time.perf_counter() < started + seconds):
        place = len(cell.seconds) * batch % len(TEXTS)
        sent = time.perf_counter()
        work(TEXTS[place : place + batch])
        cell.seconds.append(time.perf_counter() - sent)
    cell.rates.append(batch * len(cell.seconds) / (time.perf_counter() - started))
    return cell


class Bare:
    """The same weights in this process: our encoder, and sentence-transformers."""

    def __init__(self, folder: Path, model: LocalModel) -> None:
        encoder = Encoder(folder, model, device="cpu", token_budget=1024)
        reference = SentenceTransformer(str(folder), device="cpu")
        self.prompt = prompt = model.prompts.query if model.prompts else ""
        self.encode = lambda texts: encoder.encode([prompt + text for text in texts], Truncation.ERROR)
        self.reference = lambda texts: reference.encode([prompt + text for text in texts], show_progress_bar=False)


async def overhead(bare: Bare, call: Call, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Figures of computing and of serving, a value a round."""
    figures: dict[str, list[float]] = {}
    for _ in range(rounds):
        many, one = Cell(32, 1), Cell(1, 1)
        offline = in_process(bare.encode, 32, seconds)
        await many.measure(call, seconds)
        encoder = in_process(bare.encode, 1, 0, calls=60)
        await one.measure(call, seconds / 4)
        reference = in_process(bare.reference, 1, 0, calls=60)
        found = {
            "bare encoder in batches of 32, texts/s": offline.rates[0],
            "32 callers of one text each, texts/s": many.rates[0],
            "bare encoder, one text, p50 in ms": encoder.percentile(50),
            "one caller of one text, p50 in ms": one.percentile(50),
            "sentence-transformers in process, one text, p50 in ms": reference.percentile(50),
        }
        for name, value in found.items():
            figures.setdefault(name, []).append(value)
    return figures


def overhead_goals(figures: dict[str, list[float]]) -> list[Goal]:
    """How near serving comes to computing."""
    offline, many, encoder, one, reference = figures.values()

    def goal(what: str, own: list[float], other: list[float], wanted: float, *, at_most: bool) -> Goal:
        return Goal(
            what,
            f"{median(own):.1f}",
            f"{median(other):.1f}",
            median(ratios(own, other)),
            wanted,
            at_most,
            runs=ratios(own, other),
        )

    return [
        goal("32 callers of one text, rate against offline batches of 32", many, offline, 0.85, at_most=False),
        goal("one caller, p50 against the bare encoder", one, encoder, 1.25, at_most=True),
        goal("one caller, p50 against sentence-transformers in process", one, reference, 0.65, at_most=True),
    ]


async def against_peer(call: Call, other: Call, rounds: int, seconds: float) -> list[tuple[Cell, Cell]]:
    """Every cell of ours and of the peer's, in turn."""
    pairs = [(Cell(callers, batch), Cell(callers, batch)) for batch in BATCHES for callers in CALLERS]
    cosine = (await call(TEXTS[:32]) * await other(TEXTS[:32])).sum(1).min()
    if cosine < 0.97:  # as far as int8 may be from float32
        raise SystemExit(f"the servers do not compute the same: the cosine of two vectors is {cosine:.4f}")
    for _ in range(rounds):
        for own, its in pairs:
            await own.measure(call, seconds)
            await its.measure(other, seconds)
    return pairs


def peer_goals(pairs: Sequence[tuple[Cell, Cell]]) -> list[Goal]:
    """Rate and p99 of every cell."""
    found = []
    for own, its in pairs:
        what = own.what
        rates = [f"{median(cell.rates):.0f}/s" for cell in (own, its)]
        rounds = ratios(own.rates, its.rates)
        found.append(Goal(f"{what}, texts/s against {PEER}", *rates, median(rounds), 1.5, runs=rounds))
        slow, slower = own.percentile(99), its.percentile(99)
        found.append(Goal(f"{what}, p99", f"{slow:.0f} ms", f"{slower:.0f} ms", slow / slower, 1, at_most=True))
    return found


def peer_table(pairs: Sequence[tuple[Cell, Cell]]) -> str:
    """All cells of both servers."""
    rows = [
        (
            cell.callers,
            cell.batch,
            name,
            spread(cell.rates, 0),
            f"{cell.percentile(50):.1f}",
            f"{cell.percentile(99):.1f}",
        )
        for pair in pairs
        for name, cell in zip((OURS, PEER), pair, strict=True)
    ]
    return table(("callers", "texts a request", "server", "texts/s", "p50 ms", "p99 ms"), rows)


def drawn(figures: dict[str, list[float]], pairs: Sequence[tuple[Cell, Cell]]) -> Figures:
    """All figures by quantity."""
    offline, many, encoder, one, reference = figures.values()
    rates: dict[str, dict[str, Runs]] = {
        "32 callers of one text, or batches of 32": {OURS: many, "bare encoder": offline}
    }
    rates |= {own.what: {OURS: own.rates, PEER: its.rates} for own, its in pairs}
    late = {own.what: {OURS: [own.percentile(99)], PEER: [its.percentile(99)]} for own, its in pairs}
    single = {"one text": {OURS: one, "bare encoder": encoder, "sentence-transformers": reference}}
    found = {"texts a second": rates, "median time of an answer, ms": single}
    return found | ({"99th percentile of answers, ms": late} if late else {})


async def ready(client: AsyncEmbeddingClient, model: str) -> None:
    """Wait until the model answers."""
    while (await client.model(model)).state != pb.MODEL_STATE_READY:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def run(model: str, address: str, url: str, bare: Bare, rounds: int, seconds: float) -> Report:
    """Measure all and put the figures into a report."""
    pairs: Sequence[tuple[Cell, Cell]] = ()
    async with AsyncExitStack() as opened:
        client = await opened.enter_async_context(AsyncEmbeddingClient([address]))
        await ready(client, model)
        call = ours(client, model)
        await Cell(32, 1).measure(call, 1)
        figures = await overhead(bare, call, rounds, seconds)
        goals = overhead_goals(figures)
        tables = [table(("what", "median and range"), [(name, spread(runs)) for name, runs in figures.items()])]
        if url:
            session = await opened.enter_async_context(aiohttp.ClientSession())
            pairs = await against_peer(call, peer(session, url, bare.prompt), rounds, seconds)
            goals += peer_goals(pairs)
            tables.append(peer_table(pairs))
    what = f"{model}, {rounds} rounds of {seconds:g} s, texts of 12 words."
    return Report("serving", [what, *tables], goals, drawn(figures, pairs), peers={PEER: VERSION} if url else {})


def main() -> None:
    """Start the servers, measure, print."""
    parser = arguments(__doc__)
    parser.add_argument("model", nargs="?", default="all-MiniLM-L6-v2", help="catalog name")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--no-peer", action="store_true", help="leave infinity_emb out, as quick runs do")
    options = parser.parse_args()
    rounds, seconds = (1, 1.0) if options.quick else (options.rounds, options.seconds)
    model = load_catalog().models[options.model]
    assert isinstance(model, LocalModel)
    folder = locate(model.source)
    with ExitStack() as servers:
        address, _ = servers.enter_context(embedder(options.model))
        url = "" if options.no_peer or options.quick else servers.enter_context(infinity(folder, PEER))
        spare_survivors()  # or all callers would wait for this process's collector now and then
        asyncio.run(run(options.model, address, url, Bare(folder, model), rounds, seconds)).finish(options.json)


if __name__ == "__main__":
    main()
