"""Reading pieces of files straight into MLX arrays.

`mx.load` accepts a file-like object. `_BundleFile` presents the wanted pieces of many files as one
small safetensors file, under dtypes of our choice, so that only their bytes are read and MLX fills
its own buffers with them. Knows files and bytes; nothing of the model.
"""

import os
import weakref
from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from threading import Event, get_ident
from typing import cast

import mlx.core as mx

from dsv4_tp.errors import CheckpointError
from dsv4_tp.pieces import Bundle, Piece, open_bundle

_RELEASE_S = 5.0
# MLX asks for one array after the other; a disk is faster with several questions at a time.
_READERS = 4
_READ_BYTES = 8 << 20


def read_pieces(pieces: Mapping[str, Piece]) -> dict[str, mx.array]:
    """The arrays of all pieces, evaluated. Needs no memory beside them but a cropped segment's.

    Raises:
        CheckpointError: a file cannot be read, or is shorter than its header promised.
    """
    with open_bundle(pieces) as bundle, ThreadPoolExecutor(_READERS) as readers:
        source = _BundleFile(bundle, readers)
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


class _BundleFile:
    """The part of Python's binary file protocol that `mx.load` uses."""

    closed = False

    def __init__(self, bundle: Bundle, readers: Executor) -> None:
        # Kept for the caller: MLX's threads cannot pass an exception on as it is.
        self.failures: list[CheckpointError] = []
        self._bundle = bundle
        self._readers = readers
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
        bases = {os.SEEK_SET: 0, os.SEEK_CUR: self.tell(), os.SEEK_END: self._bundle.nbytes}
        self._positions[get_ident()] = bases[whence] + offset
        return bases[whence] + offset

    def readinto(self, buffer: memoryview) -> int:
        view, position = memoryview(buffer).cast("B"), self.tell()
        count = min(len(view), self._bundle.nbytes - position)
        starts = range(0, count, _READ_BYTES)
        views = (view[start : min(start + _READ_BYTES, count)] for start in starts)
        positions = (position + start for start in starts)
        try:
            for _ in self._readers.map(self._bundle.fill, views, positions):
                pass
        except CheckpointError as error:
            self.failures.append(error)
        self.seek(position + count)
        return count
