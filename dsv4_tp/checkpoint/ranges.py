"""Reading byte ranges of files straight into MLX arrays.

`mx.load` accepts a file-like object. `_RangeFile` presents the wanted pieces of many files as one
small safetensors file, under dtypes of our choice, so that only their bytes are read and MLX fills
its own buffers with them. Knows files and bytes; nothing of the model.
"""

import json
import os
import weakref
from bisect import bisect_right
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Event, get_ident
from typing import cast

import mlx.core as mx
import numpy as np

from dsv4_tp.errors import CheckpointError

_RELEASE_S = 5.0


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


def read_pieces(pieces: Mapping[str, Piece]) -> dict[str, mx.array]:
    """The arrays of all pieces, evaluated. Needs no memory beside them but a cropped segment's.

    Raises:
        CheckpointError: a file cannot be read, or is shorter than its header promised.
    """
    paths = {segment.file for piece in pieces.values() for segment in piece.segments}
    with ExitStack() as stack:
        try:
            files = {path: stack.enter_context(path.open("rb", buffering=0)) for path in paths}
        except OSError as error:
            raise CheckpointError(f"{error.filename}: {error.strerror}") from error
        source = _RangeFile(pieces, {path: file.fileno() for path, file in files.items()})
        failures, released = source.failures, Event()
        weakref.finalize(source, released.set)
        arrays = mx.load(source, format="safetensors")  # pyright: ignore[reportArgumentType]
        # MLX's reading threads let go of the source a moment after they filled the arrays; a
        # process that ends in that moment would be aborted.
        del source
        released.wait(_RELEASE_S)
    if failures:
        raise failures[0]
    return cast(dict[str, mx.array], arrays)


class _RangeFile:
    """The part of Python's binary file protocol that `mx.load` uses, over `pieces`."""

    closed = False

    def __init__(self, pieces: Mapping[str, Piece], handles: Mapping[Path, int]) -> None:
        # Kept for the caller: MLX's threads cannot pass an exception on as it is.
        self.failures: list[CheckpointError] = []
        self._handles = handles
        self._segments = [segment for piece in pieces.values() for segment in piece.segments]
        self._head = _header(pieces)
        sizes = (segment.nbytes for segment in self._segments)
        self._starts = list(accumulate(sizes, initial=len(self._head)))
        # MLX reads in threads of its own, each of which seeks before it reads.
        self._positions: dict[int, int] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def tell(self) -> int:
        return self._positions.get(get_ident(), 0)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._starts[-1]}[whence]
        self._positions[get_ident()] = base + offset
        return base + offset

    def readinto(self, buffer: memoryview) -> int:
        view = memoryview(buffer).cast("B")
        position = self.tell()
        count = min(len(view), self._starts[-1] - position)
        try:
            self._fill(view[:count], position)
        except (OSError, CheckpointError) as error:
            self.failures.append(CheckpointError(str(error)))
        self.seek(position + count)
        return count

    def _fill(self, view: memoryview, position: int) -> None:
        if position < len(self._head):
            count = min(len(view), len(self._head) - position)
            view[:count] = self._head[position : position + count]
            view, position = view[count:], position + count
        number = bisect_right(self._starts, position) - 1
        while len(view):
            segment = self._segments[number]
            start = position - self._starts[number]
            count = min(len(view), segment.nbytes - start)
            self._copy(segment, start, view[:count])
            view, position, number = view[count:], position + count, number + 1

    def _copy(self, segment: Segment, start: int, view: memoryview) -> None:
        """Fill `view` with the wanted bytes of a segment from the `start`-th on."""
        handle = self._handles[segment.file]
        if segment.take == segment.row_bytes:
            _read_exactly(handle, segment.file, segment.offset + start, view)
            return
        rows = np.empty((segment.rows, segment.row_bytes), np.uint8)
        _read_exactly(handle, segment.file, segment.offset, rows.data.cast("B"))
        wanted = np.ascontiguousarray(rows[:, segment.skip : segment.skip + segment.take])
        view[:] = wanted.data.cast("B")[start : start + len(view)]


def _header(pieces: Mapping[str, Piece]) -> bytes:
    """A safetensors header that places the pieces one after the other."""
    fields: dict[str, object] = {}
    begin = 0
    for name, piece in pieces.items():
        end = begin + piece.nbytes
        fields[name] = {"dtype": piece.dtype, "shape": piece.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read_exactly(handle: int, file: Path, offset: int, view: memoryview) -> None:
    while len(view):
        count = os.preadv(handle, [view], offset)
        if not count:
            raise CheckpointError(f"{file}: ends at byte {offset}; it was cut while being read")
        view, offset = view[count:], offset + count
