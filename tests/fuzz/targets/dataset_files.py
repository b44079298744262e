"""Raw bytes as a file of a data set of each name: a set that round-trips, or an error that names the file."""

from tests.fuzz.importing import checked

_NAMES = ("set.json", "set.jsonl", "set.json.gz", "set.json.zst", "set.zip", "set.parquet", "corpus.parquet")


def check(data: bytes) -> None:
    if data:
        checked({_NAMES[data[0] % len(_NAMES)]: data[1:]})
