"""sha256 of files of many gigabytes: read once, by several threads, and then remembered.

What was read counts for as long as a file's stamp stays the same, also for later agents.
"""

import asyncio
import hashlib
import json
import os
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Any, cast

from dsv4_tp.errors import CheckpointError
from dsv4_tp.log import log
from dsv4_tp.prepared import Stamp

_BLOCK_BYTES = 4 << 20  # hashlib lets go of the interpreter's lock for as long as a block takes
_THREADS = 4  # of these keep up with a fast disk


class Ledger:
    """The digests of the files below one directory, kept in a file in `folder`."""

    def __init__(self, folder: Path, directory: Path) -> None:
        self._directory = directory.absolute()
        name = hashlib.sha256(os.fsencode(self._directory)).hexdigest()
        self._file = folder / f"{name[:32]}.json"
        self._lines = _read_lines(self._file)
        self._lock = threading.Lock()

    def known(self, file: Path) -> str | None:
        """The digest of a file whose stamp is as it was, in hex; raises OSError."""
        stamp, digest = self._lines.get(self._name(file), (None, ""))
        return digest if stamp == Stamp.of(file) else None

    def keep(self, file: Path, stamp: Stamp, digest: str) -> None:
        """Remember a digest. A full disk only costs the reading of the file again."""
        with self._lock:
            self._lines[self._name(file)] = stamp, digest
            try:
                self._write()
            except OSError as error:
                log("digest-not-kept", file=file, error=error)

    def _name(self, file: Path) -> str:
        return str(file.absolute().relative_to(self._directory))

    def _write(self) -> None:
        self._file.parent.mkdir(mode=0o700, exist_ok=True)
        draft = self._file.with_suffix(f".{os.getpid()}")
        lines = {name: [astuple(stamp), digest] for name, (stamp, digest) in self._lines.items()}
        draft.write_text(json.dumps({"directory": str(self._directory), "files": lines}))
        draft.replace(self._file)


class Hashing:
    """One pass over files. `digests` are complete when `run` is done."""

    def __init__(self, files: Iterable[Path], ledger: Ledger) -> None:
        """Raises CheckpointError if a file is not there."""
        self.digests: dict[Path, str] = {}
        self.total_bytes = 0  # to be read
        self._done: dict[Path, int] = {}  # each thread counts in a place of its own
        self._ledger = ledger
        self._stopped = threading.Event()
        for file in files:
            self._look(file)

    @property
    def done_bytes(self) -> int:
        """Read so far."""
        return sum(self._done.values())

    async def run(self) -> None:
        """Read what is not remembered; a cancelled run stops reading within a block.

        Raises:
            CheckpointError: a file cannot be read, or changed meanwhile.
        """
        loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(_THREADS)
        try:
            reads = (loop.run_in_executor(pool, self._read, file) for file in self._done)
            await asyncio.gather(*reads)
        finally:
            self._stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)

    def _look(self, file: Path) -> None:
        try:
            if digest := self._ledger.known(file):
                self.digests[file] = digest
                return
            self.total_bytes += Stamp.of(file).size
        except OSError as error:
            raise _unreadable(file, error) from error
        self._done[file] = 0

    def _read(self, file: Path) -> None:
        try:
            before = Stamp.of(file)
            digest = self._digest(file)
            after = Stamp.of(file)
        except OSError as error:
            raise _unreadable(file, error) from error
        if digest is None:
            return
        if after != before:
            raise CheckpointError(f"{file}: changed while it was read; try again when it is whole")
        self._ledger.keep(file, before, digest)
        self.digests[file] = digest

    def _digest(self, file: Path) -> str | None:
        """None if the run was ended meanwhile."""
        digest, block = hashlib.sha256(), memoryview(bytearray(_BLOCK_BYTES))
        with file.open("rb", buffering=0) as stream:
            while count := stream.readinto(block):
                if self._stopped.is_set():
                    return None
                digest.update(block[:count])
                self._done[file] += count
        return digest.hexdigest()


def _unreadable(file: Path, error: OSError) -> CheckpointError:
    return CheckpointError(f"{file}: {error.strerror}; check that it can be read")


def _read_lines(file: Path) -> dict[str, tuple[Stamp, str]]:
    """What was kept; nothing if there is none, or the file is not ours."""
    try:
        lines = cast(dict[str, Any], json.loads(file.read_text())["files"])
        return {name: (Stamp(*stamp), str(digest)) for name, (stamp, digest) in lines.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
