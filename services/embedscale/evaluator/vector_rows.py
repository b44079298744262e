"""Room for vectors: in memory, or in a temporary file that is mapped into memory and gone when it is no longer used."""

import os
import tempfile

import numpy as np

from embedscale.core.embedding import Matrix


def in_memory(count: int, dimensions: int) -> Matrix:
    """Room for `count` rows, float32, shape (count, dimensions)."""
    return np.empty((count, dimensions), np.float32)


def in_file(count: int, dimensions: int) -> Matrix:
    """The same in a file without a name, in TMPDIR. Raises OSError if the disk has no room for all of it."""
    with tempfile.TemporaryFile(prefix="embedscale-") as file:
        if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash of the process later
            os.posix_fallocate(file.fileno(), 0, count * dimensions * 4)
        return np.memmap(file, np.float32, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=(count, dimensions))
