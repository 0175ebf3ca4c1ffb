"""Writing a rank's folder: each file whole or not at all, whatever interrupts it.

A file is written beside its place, flushed to the disk and renamed; then a line of digests.jsonl
says that it is whole. So a later run goes on behind the last whole file.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from dsv4_tp.errors import CheckpointError

_JOURNAL = "digests.jsonl"
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Whole:
    """A finished file."""

    file: str  # its name within the folder
    nbytes: int
    sha256: str


def rank_folder(out: Path, rank: int) -> Path:
    """Where the files of a rank lie."""
    return out / f"rank-{rank}"


def read_digests(folder: Path) -> dict[str, Whole]:
    """The finished files of a rank's folder by name, none if there is no folder.

    A file that has gone or has another size since does not count, nor does a torn line.

    Raises:
        CheckpointError: the folder cannot be read.
    """
    try:
        lines = (folder / _JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CheckpointError(f"{error.filename}: {error.strerror}") from error
    found = (_parse(line) for line in lines)
    return {whole.file: whole for whole in found if whole and _is_there(folder, whole)}


class Writing:
    """A file in the making."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self.nbytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes; OSError if the disk has no place for them."""
        self._stream.write(data)
        self._digest.update(data)
        self.nbytes += len(data)

    @property
    def sha256(self) -> str:
        """Of all bytes so far."""
        return self._digest.copy().hexdigest()


class Sink:
    """One rank's folder while it is being filled; nobody else may fill it meanwhile."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError: it cannot be made, or another process is filling it."""
        self.folder = folder
        with _disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.held = read_digests(folder)
            self._open = ExitStack()
            # Kept open for the lock, which ends with the process.
            self._lock = self._open.enter_context((folder / ".lock").open("wb"))
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self._open.close()
                raise CheckpointError(f"{folder}: another process is writing there") from error
            self._tidy()

    def __enter__(self) -> "Sink":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.close()

    @contextmanager
    def file(self, name: str) -> Generator[Writing]:
        """A file that is there, and `held`, when the block ends well; else no trace stays.

        Raises:
            CheckpointError: the disk is full or fails.
        """
        place = self.folder / name
        partial = place.with_name(name + _PARTIAL)
        try:
            with _disk_errors(place):
                with partial.open("wb") as stream:
                    writing = Writing(stream)
                    yield writing
                    stream.flush()
                    os.fsync(stream.fileno())
                partial.rename(place)
                self._note(Whole(name, writing.nbytes, writing.sha256))
        finally:
            partial.unlink(missing_ok=True)

    def _note(self, whole: Whole) -> None:
        with (self.folder / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(whole)) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self.held[whole.file] = whole

    def _tidy(self) -> None:
        """Leave a journal of whole lines, and no half file of an interrupted run."""
        for half in self.folder.glob(f"*{_PARTIAL}"):
            half.unlink()
        journal = self.folder / _JOURNAL
        lines = (json.dumps(asdict(whole)) + "\n" for whole in self.held.values())
        fresh = journal.with_name(_JOURNAL + _PARTIAL)
        fresh.write_text("".join(lines), encoding="utf-8")
        fresh.rename(journal)


def _parse(line: str) -> Whole | None:
    try:
        raw = json.loads(line)
        return Whole(str(raw["file"]), int(raw["nbytes"]), str(raw["sha256"]))
    except (ValueError, TypeError, KeyError):
        return None


def _is_there(folder: Path, whole: Whole) -> bool:
    file = folder / whole.file
    return file.is_file() and file.stat().st_size == whole.nbytes


@contextmanager
def _disk_errors(place: Path) -> Generator[None]:
    """What the disk refuses, told as what the user can do about it."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{place}: {error.strerror}; finished files stay, so the same command goes on from here"
        ) from error
