"""The recorded arrivals: how many requests came in each ten seconds, and what they asked for.

    python -m benchmarks.scaling.arrivals     # records arrivals.csv anew

Nobody's traffic: it is made, once, from a fixed seed, to have what traffic of embedding services has. A day from night
to night is pressed into an hour, which is harder for an autoscaler than a day; minutes differ by slow noise, and five
bursts double the load for half a minute to a minute and a half. Questions are single texts; the texts of a document
come in requests whose sizes have a heavy tail, as the lengths of texts have. Within ten seconds arrivals are Poisson's.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("arrivals.csv")
BIN_SECONDS = 10.0
MOST_TOKENS = 512
_MOST_TEXTS = 32
_BINS = 360
_QUESTIONS_A_SECOND, _DOCUMENTS_A_SECOND = 20.0, 14.0
_BURSTS = ((52, 4), (121, 9), (178, 3), (214, 6), (287, 5))


@dataclass(frozen=True)
class Request:
    """Texts that are sent together at a moment in seconds, by their tokens."""

    moment: float
    tokens: Sequence[int]

    @property
    def size(self) -> int:
        """Tokens of all texts."""
        return sum(self.tokens)


def recorded() -> list[tuple[int, int]]:
    """Requests of single questions and of documents in each bin of ten seconds."""
    with FILE.open(newline="") as file:
        return [(int(row["questions"]), int(row["documents"])) for row in csv.DictReader(file)]


def requests(bins: Sequence[tuple[int, int]], seed: int = 1) -> Iterator[Request]:
    """The requests of the bins in the order of their arrival; the same for the same seed."""
    draw = np.random.default_rng(seed)
    for number, (questions, documents) in enumerate(bins):
        moments = (number + draw.random(questions + documents)) * BIN_SECONDS
        single = draw.permutation(questions + documents) < questions
        for order in np.argsort(moments):
            yield Request(float(moments[order]), _question(draw) if single[order] else _document(draw))


def steady(seconds: float, questions: float, documents: float, seed: int = 1) -> Iterator[Request]:
    """Requests at so many a second, which do not change."""
    draw = np.random.default_rng(seed)
    count = round(seconds / BIN_SECONDS)
    rates = np.array([questions, documents]) * BIN_SECONDS
    yield from requests([tuple(map(int, pair)) for pair in draw.poisson(rates, (count, 2))], seed)


def _question(draw: np.random.Generator) -> list[int]:
    return _lengths(draw, 1, median=14, spread=0.6)


def _document(draw: np.random.Generator) -> list[int]:
    texts = min(int(np.ceil(3 * (1 + draw.pareto(2.0)))), _MOST_TEXTS)
    return _lengths(draw, texts, median=110, spread=0.9)


def _lengths(draw: np.random.Generator, texts: int, median: float, spread: float) -> list[int]:
    drawn = median * np.exp(spread * draw.standard_normal(texts))
    return [int(length) for length in np.clip(drawn, 3, MOST_TOKENS)]


def _made() -> Iterator[tuple[int, int]]:
    draw = np.random.default_rng(20_261_121)
    day = np.sin(np.linspace(0, np.pi, _BINS)) ** 2
    noise = 0.0
    for number in range(_BINS):
        noise = 0.9 * noise + 0.05 * draw.standard_normal()
        burst = 2.0 if any(start <= number < start + length for start, length in _BURSTS) else 1.0
        level = (0.05 + 0.95 * day[number]) * np.exp(noise) * burst * BIN_SECONDS
        yield int(draw.poisson(_QUESTIONS_A_SECOND * level)), int(draw.poisson(_DOCUMENTS_A_SECOND * level))


def record(file: Path = FILE) -> None:
    """Write the record."""
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened, lineterminator="\n")
        writer.writerow(("second", "questions", "documents"))
        writer.writerows((round(number * BIN_SECONDS), *pair) for number, pair in enumerate(_made()))


if __name__ == "__main__":
    record()
