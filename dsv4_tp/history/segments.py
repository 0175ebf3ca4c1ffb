"""A log that never grows beyond its bound: two files, of which the older one is dropped in time.

    STEM.0        the first bytes; dropped when STEM.8192 is full
    STEM.4096     each file's name says where in the whole log it begins
    STEM.8192

So an offset into the log stays true for ever, a reader needs nothing but the names, and it knows
how much it has missed. The files are the buffer between the writer, which never waits, and
readers, which may be slow.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.log import log

_KEPT = 2


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a log."""

    offset: int  # where in the whole log they begin
    data: bytes
    missed: int = 0  # bytes that were asked for and are no longer kept, right before these

    @property
    def end(self) -> int:
        """Where the next piece begins."""
        return self.offset + len(self.data)


class Segments:
    """The one writer of a log, which goes on where an earlier writer has stopped."""

    def __init__(self, folder: Path, stem: str, *, limit_bytes: int) -> None:
        """At most about `limit_bytes` are kept, at least half of them."""
        self._folder = folder
        self._stem = stem
        self._most = limit_bytes // _KEPT
        self._file: int | None = None
        self._begins = self._size = 0
        self._broken = False

    def write(self, data: bytes) -> None:
        """Append. Where that fails, as on a full disk, only the words are lost."""
        try:
            self._append(data)
        except OSError as error:
            if not self._broken:
                log("log-not-kept", file=self._folder / self._stem, error=error)
            self._broken = True

    def handle(self) -> int:
        """An open file to append to, for a process that writes by itself; raises OSError.

        When it has outgrown its bound, the next call opens another one.
        """
        if self._file is None:
            self._open()
        assert self._file is not None
        self._size = os.fstat(self._file).st_size
        if self._size >= self._most:
            self._turn()
        return self._file

    def close(self) -> None:
        """Nothing more will come."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, data: bytes) -> None:
        if self._file is None:
            self._open()
        if self._size and self._size + len(data) > self._most:
            self._turn()
        assert self._file is not None
        self._size += os.write(self._file, data)

    def _open(self) -> None:
        found = _segments(self._folder, self._stem)
        self._begins, file = found[-1] if found else (0, self._path(0))
        self._file = _open(file)
        self._size = os.fstat(self._file).st_size

    def _turn(self) -> None:
        """Begin the next file, and drop what is too old."""
        begins = self._begins + self._size
        file = _open(self._path(begins))
        self.close()
        self._file, self._begins, self._size = file, begins, 0
        for _, old in _segments(self._folder, self._stem)[:-_KEPT]:
            old.unlink(missing_ok=True)

    def _path(self, begins: int) -> Path:
        return self._folder / f"{self._stem}.{begins}"


def read_piece(folder: Path, stem: str, since: int, most_bytes: int) -> Piece:
    """What is kept of a log from offset `since` on, at most so much; no bytes: that is all."""
    for begins, file in _segments(folder, stem):
        try:
            piece = _read(file, begins, since, most_bytes)
        except FileNotFoundError:  # dropped meanwhile
            continue
        if piece.data:
            return piece
    return Piece(since, b"")


def ends_at(folder: Path, stem: str) -> int:
    """The offset of what will be written next."""
    for begins, file in reversed(_segments(folder, stem)):
        return begins + file.stat().st_size
    return 0


def _read(file: Path, begins: int, since: int, most_bytes: int) -> Piece:
    offset = max(since, begins)
    with file.open("rb") as opened:
        opened.seek(offset - begins)
        return Piece(offset, opened.read(most_bytes), missed=offset - since)


def _segments(folder: Path, stem: str) -> list[tuple[int, Path]]:
    """Where each file begins, in order."""
    files = ((file.name.rpartition(".")[2], file) for file in folder.glob(f"{stem}.*"))
    return sorted(
        (int(number), file)
        for number, file in files
        if number.isdecimal() and file.name == f"{stem}.{number}"
    )


def _open(file: Path) -> int:
    return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
