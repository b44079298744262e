"""Which parameters an index has, what they may be, and what they are where nothing was asked for."""

from embedscale.core.errors import InvalidField
from embedscale.core.vector_index import IndexKind, IndexSpec

PARAMETERS: dict[IndexKind, tuple[str, ...]] = {
    IndexKind.FLAT: (),
    IndexKind.HNSW: ("m", "ef_construction", "ef_search"),
    IndexKind.IVF_FLAT: ("nlist", "nprobe"),
    IndexKind.IVF_PQ: ("nlist", "nprobe", "pq_m", "pq_bits"),
    IndexKind.INT8: (),
    IndexKind.BINARY: (),
}
RANGES = {
    "m": (2, 256),
    "ef_construction": (1, 10_000),
    "ef_search": (1, 10_000),
    "nlist": (1, 2**20),
    "nprobe": (1, 2**20),
    "pq_m": (1, 4096),
    "pq_bits": (1, 12),
}
TRAINED_BY_EACH = 39
"""Documents that k-means wants for each list; FAISS warns of fewer."""


def check(spec: IndexSpec, field: str) -> None:
    """Refuse what can be refused without knowing the data. Raises InvalidField that names `field`'s part."""
    for name, (lowest, highest) in RANGES.items():
        value = getattr(spec, name)
        if value and name not in PARAMETERS[spec.kind]:
            has = ", ".join(PARAMETERS[spec.kind]) or "none"
            raise InvalidField(f"{field}.{name}: {spec.kind.value} has no such parameter; it has {has}",
                               field=f"{field}.{name}")  # fmt: skip
        if value and not lowest <= value <= highest:
            message = f"{field}.{name} is {value} and must be from {lowest} to {highest}"
            raise InvalidField(message, field=f"{field}.{name}")


def resolve(spec: IndexSpec, documents: int, dimensions: int, field: str) -> IndexSpec:
    """Fill in defaults and refuse what does not fit the data. Raises InvalidField."""
    filled = _with_defaults(spec, documents, dimensions)
    codes = 2**filled.pq_bits if filled.pq_bits else 0
    limits = {
        "nlist": (filled.nlist <= documents, f"more than the {documents} documents"),
        "nprobe": (filled.nprobe <= filled.nlist, f"more than the {filled.nlist} lists"),
        "pq_m": (not filled.pq_m or dimensions % filled.pq_m == 0, f"no divisor of the {dimensions} dimensions"),
        "pq_bits": (codes <= documents, f"{codes} codes, which {documents} documents cannot train"),
    }
    for name, (fits, why) in limits.items():
        if not fits:
            message = f"{field}.{name} is {getattr(filled, name)}: {why}"
            raise InvalidField(message, field=f"{field}.{name}")
    return filled


def _with_defaults(spec: IndexSpec, documents: int, dimensions: int) -> IndexSpec:
    """Common choices: four square roots of n lists as far as they can be trained, a sixteenth of them searched."""
    nlist = spec.nlist or max(min(int(4 * documents**0.5), documents // TRAINED_BY_EACH), 1)
    defaults = {
        "m": 32,
        "ef_construction": 200,
        "ef_search": 64,
        "nlist": nlist,
        "nprobe": min(max(nlist // 16, 8), nlist),
        "pq_m": next(size for size in range(max(dimensions // 4, 1), 0, -1) if dimensions % size == 0),
        "pq_bits": min(8, max(documents.bit_length() - 1, 1)),
    }
    chosen = {name: getattr(spec, name) or defaults[name] for name in PARAMETERS[spec.kind]}
    return IndexSpec(spec.kind, spec.similarity, **chosen)
