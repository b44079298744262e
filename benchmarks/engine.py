"""How fast a model computes on this machine: our encoders, sentence-transformers and one text at a time.

    python -m benchmarks.engine [MODEL ...] [--threads 2] [--rounds 3] [--texts FOLDER] [--every 1] [--quick] [--json F]

Every contender has a process of its own with the same weights, texts and number of threads. They take turns within a
round, and the machine's limit (products of large matrices) is measured in each round too. Tokens are those of the texts
after truncation, padding not counted. A token costs two operations a weight of the network's matrices; the products of
attention come on top of that and are not counted, so that the shares of long texts are rather too small.
"""

import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.common import AI_ACT, Goal, Report, arguments, data_sets, median, ratios, spread, table, texts_fact
from embedscale.core.embedding import Truncation
from embedscale.embedder.weights import locate
from embedscale.embedding.catalog import Catalog, LocalModel, load_catalog

Texts = list[str]
Sets = Mapping[str, Texts]
Work = Callable[[Texts], object]
Timings = dict[tuple[str, str], list[float]]
"""Seconds of each run by contender and set of texts."""

REFERENCE, ARTICLE, LIMIT = "sentence-transformers, batch 32", "transformers, one text at a time", "limit"
SETS = ("questions", "chunks", "mix")
SIDE = 1536


@dataclass(frozen=True)
class Contender:
    """Something that computes vectors; `name` is that of a peer or of a model in the catalog."""

    name: str
    model: str
    threads: int


def ours(catalog: Catalog, contender: Contender) -> Work:
    """Our encoder, as the embedder has it."""
    from embedscale.embedder.encoder import Encoder

    model = _local(catalog, contender.name)
    encoder = Encoder(locate(model.source), model, device="cpu", token_budget=None)
    return lambda texts: encoder.encode(texts, Truncation.END)


def sentence_transformers(catalog: Catalog, contender: Contender) -> Work:
    """The library most people use, at its default batch size."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(locate(_local(catalog, contender.model).source)), device="cpu")
    model.max_seq_length = _local(catalog, contender.model).max_tokens
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)


def one_at_a_time(catalog: Catalog, contender: Contender) -> Work:
    """As the article does: tokenise, compute and average each text by itself."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    entry = _local(catalog, contender.model)
    folder = locate(entry.source)
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()

    def work(texts: Texts) -> None:
        with torch.no_grad():
            for text in texts:
                tokens = tokenizer(text, truncation=True, max_length=entry.max_tokens, return_tensors="pt")
                mask = tokens["attention_mask"].unsqueeze(-1)
                mean = (network(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
                torch.nn.functional.normalize(mean)

    return work


def limits(threads: int) -> dict[str, float]:
    """Operations a second of products of large square matrices, by library and number format: the best of 5."""
    import torch

    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    small = torch.randint(-128, 127, (SIDE, SIDE), dtype=torch.int8)
    found = {"float32, torch": _rate(lambda: a @ b), "int8, torch": _rate(lambda: torch._int_mm(small, small))}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        found |= {f"{kind}, onnxruntime": _rate(_onnx_product(kind, threads)) for kind in ("float32", "int8")}
    return found


def _onnx_product(kind: str, threads: int) -> Callable[[], object]:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    whole = kind == "int8"
    left, right, out, operator = (
        (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32, "MatMulInteger")
        if whole
        else (TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.FLOAT, "MatMul")
    )
    random = np.random.default_rng(1)
    weights = random.integers(-128, 127, (SIDE, SIDE)).astype(np.int8 if whole else np.float32)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", left, [SIDE, SIDE])],
        [helper.make_tensor_value_info("c", out, [SIDE, SIDE])],
        [helper.make_tensor("b", right, [SIDE, SIDE], weights.tobytes(), raw=True)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    given = {"a": random.integers(0, 255, (SIDE, SIDE)).astype(np.uint8 if whole else np.float32)}
    return lambda: session.run(None, given)


def _rate(product: Callable[[], object]) -> float:
    taken = [_seconds(product) for _ in range(6)]
    return 2 * SIDE**3 / min(taken[1:])


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


LOADERS = {REFERENCE: sentence_transformers, ARTICLE: one_at_a_time}


def serve_contender(pipe: Connection, contender: Contender, sets: Sets) -> None:
    """In a process of its own: load, warm up, then compute a set whenever its name comes, and answer the seconds."""
    import torch

    torch.set_num_threads(contender.threads)
    if contender.name == LIMIT:
        while pipe.recv():
            pipe.send(limits(contender.threads))
        return
    work = LOADERS.get(contender.name, ours)(load_catalog(), contender)
    work(sets["mix"][:: max(len(sets["mix"]) // 16, 1)])
    pipe.send("ready")
    while name := pipe.recv():
        texts = sets[name]
        pipe.send(_seconds(lambda texts=texts: work(texts)))


@contextmanager
def started(contender: Contender, sets: Sets) -> Iterator[Connection]:
    """Start a contender and end it; the pipe to it. It is no daemon, for those may not start what makes a graph."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve_contender, args=(there, contender, sets))
    process.start()
    there.close()
    try:
        if contender.name != LIMIT:
            here.recv()
        yield here
    finally:
        with suppress(OSError):
            here.send("")
        process.join(10)
        process.terminate()


def measure(contenders: Sequence[Contender], sets: Sets, rounds: int) -> tuple[Timings, dict[str, list[float]]]:
    """Seconds of every run, and the machine's rates by library, both a value a round."""
    timings: Timings = {}
    rates: dict[str, list[float]] = {}
    with ExitStack() as opened:
        pipes = {contender.name: opened.enter_context(started(contender, sets)) for contender in contenders}
        for _ in range(rounds):
            _round(pipes, timings, rates)
    return timings, rates


def _round(pipes: Mapping[str, Connection], timings: Timings, rates: dict[str, list[float]]) -> None:
    pipes[LIMIT].send("limit")
    for kind, rate in pipes[LIMIT].recv().items():
        rates.setdefault(kind, []).append(rate)
    for texts in SETS:
        for name, pipe in pipes.items():
            if name != LIMIT and (name != ARTICLE or texts == "questions"):
                pipe.send(texts)
                timings.setdefault((name, texts), []).append(pipe.recv())


def operations_per_token(folder: Path) -> float:
    """Two for each weight of the network's matrices, but for those of a head that pooling does not use."""
    import torch
    from transformers import AutoConfig, AutoModel

    with torch.device("meta"):
        network = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    linear = [(name, part) for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)]
    return float(sum(2 * part.weight.numel() for name, part in linear if not name.startswith("pooler")))


def token_counts(model: LocalModel, sets: Sets) -> dict[str, int]:
    """Tokens of each set after truncation."""
    from embedscale.embedder.tokenizing import Tokenizer

    tokenizer = Tokenizer(locate(model.source))
    return {
        name: sum(min(text.token_count, model.max_tokens or 10**9) for text in tokenizer.tokenize(texts))
        for name, texts in sets.items()
    }


def texts_of(folder: Path, every: int) -> Sets:
    """Questions, chunks and both, of the sets of a folder, or of the built-in ones where there is none."""
    contents = data_sets(folder).values()
    questions, chunks = (
        [text for content in contents for text in content[part].values()][::every] for part in ("queries", "corpus")
    )
    return {"questions": questions, "chunks": chunks, "mix": [*questions, *chunks]}


def _local(catalog: Catalog, name: str) -> LocalModel:
    model = catalog.models.get(name)
    if not isinstance(model, LocalModel):
        raise SystemExit(f"{name} is not a local model of the catalog")
    return model


def goals(names: Sequence[str], timings: Timings, shares: Mapping[tuple[str, str], Sequence[float]]) -> list[Goal]:
    """What a model and its int8 form should reach."""
    found = []
    for name in names:
        whole = name.endswith("-int8")
        for texts in SETS:
            share = median(shares[name, texts])
            found.append(
                Goal(
                    f"{name}, {texts}, of the float32 limit",
                    f"{share:.0%}",
                    "",
                    share,
                    1.3 if whole else 0.8,
                    False,
                    share,
                    shares[name, texts],
                )
            )
        against = {(REFERENCE, "questions"): (1.5, 2.5), (REFERENCE, "mix"): (1.2, 1.8), (ARTICLE, "questions"): (2, 3)}
        for (peer, texts), wanted in against.items():
            theirs, own = timings[peer, texts], timings[name, texts]
            seconds = [f"{median(taken):.1f} s" for taken in (own, theirs)]
            what = f"{name}, {texts}, against {peer}"
            share, runs = median(shares[name, texts]), ratios(theirs, own)
            found.append(Goal(what, *seconds, median(runs), wanted[whole], False, share, runs))
    return found


def run(names: Sequence[str], threads: int, rounds: int, sets: Sets) -> Report:
    """Measure all contenders and put the figures into a report."""
    catalog = load_catalog()
    base = _local(catalog, names[0])
    contenders = [Contender(name, names[0], threads) for name in (*names, REFERENCE, ARTICLE, LIMIT)]
    timings, rates = measure(contenders, sets, rounds)
    tokens = token_counts(base, sets)
    cost = operations_per_token(locate(base.source))
    limit = max(median(runs) for kind, runs in rates.items() if kind.startswith("float32"))
    speeds = {key: [tokens[key[1]] / seconds for seconds in taken] for key, taken in timings.items()}
    shares = {key: [speed * cost / limit for speed in runs] for key, runs in speeds.items()}
    machine = table(
        ("the machine's limit", "10⁹ operations a second"),
        [(kind, spread([rate / 1e9 for rate in runs], 0)) for kind, runs in rates.items()],
    )
    rows = [
        (name, texts, spread(runs, 0), f"{median(shares[name, texts]):.0%}") for (name, texts), runs in speeds.items()
    ]
    what = (
        f"{names[0]} on {threads} threads, {rounds} rounds: {cost / 1e6:.1f} MFLOP a token; "
        + ", ".join(f"{len(sets[name]):,} {name} of {tokens[name]:,} tokens" for name in SETS)
        + "."
    )
    figures = {
        "tokens a second": {
            texts: {name: runs for (name, one), runs in speeds.items() if one == texts} for texts in SETS
        },
        "the machine's limit, 10⁹ operations a second": {
            kind: {"square matrices": [rate / 1e9 for rate in runs]} for kind, runs in rates.items()
        },
    }
    facts = {"operations_per_token": cost, "tokens": tokens}
    measured = table(("contender", "texts", "tokens/s", "of the float32 limit"), rows)
    return Report("engine", [what, machine, measured], goals(names, timings, shares), figures, facts)


def main() -> None:
    """Read the options, measure, print."""
    parser = arguments(__doc__)
    parser.add_argument("models", nargs="*", help="catalog names; the first is also what the peers compute")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=Path, default=AI_ACT)
    parser.add_argument("--every", type=int, default=1, help="take every so-manieth text alone")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    first = "all-MiniLM-L6-v2"
    names = options.models or [first, *(name for name in load_catalog().models if name == f"{first}-int8")]
    rounds = 1 if options.quick else options.rounds
    report = run(
        names, options.threads, rounds, texts_of(options.texts, 16 * options.every if options.quick else options.every)
    )
    report.facts |= texts_fact(options.texts)
    report.finish(options.json)


if __name__ == "__main__":
    main()
