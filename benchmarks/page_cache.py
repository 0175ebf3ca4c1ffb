"""Files that are on the disk and nowhere else, so that reading them is seen. Linux only."""

import ctypes
import mmap
import os
import sys
from pathlib import Path

import numpy as np


def evict(file: Path) -> None:
    """Have none of a file in the page cache.

    Raises:
        SystemExit: the kernel keeps some of it.
    """
    with file.open("rb") as stream:
        os.fsync(stream.fileno())  # what is not on disk yet would stay
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        kept = cached_bytes(stream.fileno())
    if kept:
        sys.exit(f"{file}: {kept:,} bytes stay in the page cache; is another process reading it?")


def cached_bytes(handle: int) -> int:
    """How much of an open file is in the page cache."""
    size = os.fstat(handle).st_size
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    with mmap.mmap(handle, size, access=mmap.ACCESS_READ) as mapped:
        whole = np.frombuffer(mapped, np.uint8)
        address, length = ctypes.c_void_p(whole.ctypes.data), ctypes.c_size_t(size)
        failed = ctypes.CDLL(None).mincore(address, length, ctypes.c_void_p(pages.ctypes.data))
        del whole  # the map cannot be closed while it is seen
    assert not failed, "mincore"
    return int((pages & 1).sum()) * mmap.PAGESIZE
