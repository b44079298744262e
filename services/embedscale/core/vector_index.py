"""Ways to search vectors, as an evaluation asks for them."""

from dataclasses import dataclass
from enum import Enum


class IndexKind(Enum):
    """How vectors are stored and searched."""

    FLAT = "flat"
    HNSW = "hnsw"
    IVF_FLAT = "ivf_flat"
    IVF_PQ = "ivf_pq"
    INT8 = "int8"
    BINARY = "binary"


class Similarity(Enum):
    """What is compared; the same for vectors of length 1."""

    INNER_PRODUCT = "inner_product"
    COSINE = "cosine"


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """An index and its parameters; 0 means a value that fits the number of documents and dimensions.

    `m` links a vector and `ef_construction`, `ef_search` candidates are HNSW's; `nlist` lists, of which `nprobe` are
    searched, are IVF's; `pq_m` codes of `pq_bits` bits a vector are the product quantiser's.
    """

    kind: IndexKind = IndexKind.FLAT
    similarity: Similarity = Similarity.INNER_PRODUCT
    m: int = 0
    ef_construction: int = 0
    ef_search: int = 0
    nlist: int = 0
    nprobe: int = 0
    pq_m: int = 0
    pq_bits: int = 0
