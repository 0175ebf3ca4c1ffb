"""Byte ranges of files, and arrays put together from them. Knows nothing of the model."""

import os
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.errors import CheckpointError


@dataclass(frozen=True, slots=True)
class Segment:
    """`rows` consecutive rows of `row_bytes` in a file; of each the bytes [skip, skip + take)."""

    file: Path
    offset: int  # absolute, of the first row
    rows: int
    row_bytes: int
    skip: int
    take: int

    @property
    def nbytes(self) -> int:
        """Bytes that are wanted."""
        return self.rows * self.take

    @property
    def span_bytes(self) -> int:
        """Bytes that are read: rows are read whole."""
        return self.rows * self.row_bytes

    def copy(self, handle: int, start: int, view: memoryview) -> None:
        """Fill `view` with the wanted bytes from the `start`-th on; `handle` is the open file.

        Raises:
            CheckpointError: the file ends before them, or cannot be read.
        """
        if self.take == self.row_bytes:
            _read_exactly(handle, self.file, self.offset + start, view)
            return
        import numpy as np  # planning, which copies nothing, is to start at once

        first, skipped = divmod(start, self.take)
        count = -(-(skipped + len(view)) // self.take)
        rows = np.empty((count, self.row_bytes), np.uint8)
        offset = self.offset + first * self.row_bytes
        _read_exactly(handle, self.file, offset, rows.data.cast("B"))
        wanted = np.ascontiguousarray(rows[:, self.skip : self.skip + self.take])
        view[:] = wanted.data.cast("B")[skipped : skipped + len(view)]


@dataclass(frozen=True, slots=True)
class Piece:
    """One array to read: the bytes of its segments in order, taken for values of `dtype`."""

    dtype: str  # in safetensors' words
    shape: tuple[int, ...]
    segments: tuple[Segment, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return sum(segment.nbytes for segment in self.segments)

    @property
    def span_bytes(self) -> int:
        """Bytes that are read for it."""
        return sum(segment.span_bytes for segment in self.segments)


def _read_exactly(handle: int, file: Path, offset: int, view: memoryview) -> None:
    while len(view):
        try:
            count = os.preadv(handle, [view], offset)
        except OSError as error:
            raise CheckpointError(f"{file}: {error.strerror} at byte {offset}") from error
        if not count:
            raise CheckpointError(f"{file}: ends at byte {offset}; it was cut while being read")
        view, offset = view[count:], offset + count
