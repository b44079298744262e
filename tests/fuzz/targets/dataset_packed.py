"""A compressed set reads as the set itself; a damaged one as nothing else: the same, or an error that says so.

The first byte chooses the compression, the next two where it is damaged and how, the rest is the set.
"""

import gzip
import io
import zipfile
from collections.abc import Callable
from random import Random

import zstandard

from embedscale.core.errors import DatasetInvalid
from tests.fuzz.importing import Content, Files, read
from tests.fuzz.mutating import mutated_json

_HEADER = 3


def check(data: bytes) -> None:
    if len(data) < _HEADER:
        return
    name, pack = _PACKED[data[0] % len(_PACKED)]
    plain = _outcome({"set.json": data[_HEADER:]})
    packed = pack(data[_HEADER:])
    assert _same(_outcome({name: packed}), plain)
    damaged = bytearray(packed)
    damaged[data[1] * len(packed) // 256] ^= data[2]
    found = _outcome({name: bytes(damaged)})
    assert isinstance(found, str) or found == plain  # a checksum, or else a fault, notices


def mutate(data: bytes, pick: Random) -> bytes | None:
    changed = mutated_json(data[_HEADER:], pick) if pick.random() < 0.5 else data[_HEADER:]
    return None if changed is None else pick.randbytes(_HEADER) + changed


def _outcome(files: Files) -> Content | str:
    try:
        return read(files)
    except DatasetInvalid as error:
        assert error.field == "dataset"
        return error.message


def _same(packed: Content | str, plain: Content | str) -> bool:
    return packed == plain if isinstance(plain, Content) else isinstance(packed, str)


def _zipped(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("set.json"), data)
    return file.getvalue()


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


_PACKED: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("set.json.gz", lambda data: gzip.compress(data, mtime=0)),
    ("set.json.zst", _zstd),
    ("set.zip", _zipped),
]
