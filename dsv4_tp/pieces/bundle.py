"""Pieces of many files presented as one small safetensors file, of which nothing is copied."""

import json
import os
import sys
from bisect import bisect_right
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path

from dsv4_tp.errors import CheckpointError
from dsv4_tp.pieces.segments import Piece


class Bundle:
    """The bytes of a safetensors file that holds `pieces`, in their order, under their names."""

    def __init__(self, pieces: Mapping[str, Piece], handles: Mapping[Path, int]) -> None:
        """`handles` are the open files of all segments."""
        self._handles = handles
        self._segments = [segment for piece in pieces.values() for segment in piece.segments]
        self._head = _header(pieces)
        sizes = (segment.nbytes for segment in self._segments)
        self._starts = list(accumulate(sizes, initial=len(self._head)))

    @property
    def nbytes(self) -> int:
        """Of the whole file."""
        return self._starts[-1]

    def fill(self, view: memoryview, position: int) -> None:
        """Fill `view`, which ends within the file, with its bytes from `position` on.

        Raises:
            CheckpointError: a file cannot be read, or is shorter than its header promised.
        """
        if position < len(self._head):
            count = min(len(view), len(self._head) - position)
            view[:count] = self._head[position : position + count]
            view, position = view[count:], position + count
        number = bisect_right(self._starts, position) - 1
        while len(view):
            segment = self._segments[number]
            start = position - self._starts[number]
            count = min(len(view), segment.nbytes - start)
            segment.copy(self._handles[segment.file], start, view[:count])
            view, position, number = view[count:], position + count, number + 1

    def chunks(self, most_bytes: int) -> Iterator[memoryview]:
        """The whole file in order; each chunk is valid until the next is asked for."""
        buffer = memoryview(bytearray(min(most_bytes, self.nbytes)))
        for position in range(0, self.nbytes, most_bytes):
            view = buffer[: min(most_bytes, self.nbytes - position)]
            self.fill(view, position)
            yield view


def bundle_bytes(pieces: Mapping[str, Piece]) -> int:
    """The size of the bundle of these pieces."""
    return len(_header(pieces)) + sum(piece.nbytes for piece in pieces.values())


@contextmanager
def open_bundle(pieces: Mapping[str, Piece]) -> Generator[Bundle]:
    """The bundle, with the files of its segments open for as long as it is used.

    Raises:
        CheckpointError: one of them cannot be opened.
    """
    paths = {segment.file for piece in pieces.values() for segment in piece.segments}
    with ExitStack() as stack:
        try:
            files = {path: stack.enter_context(path.open("rb", buffering=0)) for path in paths}
        except OSError as error:
            raise CheckpointError(f"{error.filename}: {error.strerror}") from error
        for file in files.values():
            _read_nothing_ahead(file.fileno())
        yield Bundle(pieces, {path: file.fileno() for path, file in files.items()})


def _read_nothing_ahead(handle: int) -> None:
    """Have the kernel read what is asked for only: what lies between pieces is for other ranks."""
    if sys.platform == "linux":  # macOS has no posix_fadvise
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)


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
