"""State files of running clusters: how a client on this machine finds one by its name.

One file `NAME.json` for each in the state directory, for its user only, whole from the moment it
is there, and locked by its process for as long as that lives. A file whose process is gone, such as
after a kill -9, counts as none and is written over.
Beside it lie `NAME.pem`, the cluster's authority, which stays for the next launch of that name,
and `NAME.launch`, with which the next one takes the ranks over if this one is killed.
"""

import fcntl
import json
import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import psutil

from dsv4_tp.errors import PreflightError
from dsv4_tp.log import log
from dsv4_tp.rpc.lives import is_alive

_FIRST_NAME = "dsv4"
_LOCK_DEADLINE_S = 5.0  # a launch holds the folder for well under a millisecond


@dataclass(frozen=True, slots=True)
class Entry:
    """One running cluster."""

    name: str
    address: str  # HOST:PORT of its ClusterService
    pid: int  # of the coordinator
    started_s: float  # of that process, since numbers are given again

    @property
    def is_running(self) -> bool:
        """Whether its coordinator still is that process."""
        return is_alive(self.pid, self.started_s)


def running(folder: Path) -> tuple[Entry, ...]:
    """The clusters that run on this machine, by name; `folder` is the state directory."""
    entries = [entry for file in folder.glob("*.json") if (entry := _read(file))]
    return tuple(sorted((e for e in entries if e.is_running), key=lambda entry: entry.name))


def authority_file(folder: Path, name: str) -> Path:
    """Where the secret key of the cluster's authority lies, if there has been such a cluster."""
    return folder / f"{name}.pem"


def record_file(folder: Path, name: str) -> Path:
    """Where the last launch of a cluster that was killed has left word of its agents."""
    return folder / f"{name}.launch"


@contextmanager
def registered(folder: Path, *, name: str | None, address: str) -> Generator[Entry]:
    """This process has a state file under `name` until the end; None takes a free name.

    Raises:
        PreflightError: a cluster of that name is running.
    """
    entry, handle = _register(folder, name, address)
    try:
        yield entry
    finally:
        if _read(_file(folder, entry.name)) == entry:
            _file(folder, entry.name).unlink(missing_ok=True)
        os.close(handle)


def _register(folder: Path, name: str | None, address: str) -> tuple[Entry, int]:
    started_s = psutil.Process().create_time()
    for candidate in (name,) if name else _names():
        entry = Entry(candidate, address, os.getpid(), started_s)
        if (handle := _write(folder, entry)) is not None:
            return entry, handle
    advice = f"give another name, or end it: dsv4-tp down --name {name}"
    raise PreflightError(f"a cluster named {name} is running; {advice}")


def _names() -> Iterator[str]:
    return (_FIRST_NAME if number == 1 else f"{_FIRST_NAME}-{number}" for number in count(1))


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _read(file: Path) -> Entry | None:
    """The entry in a file; None if there is none, or the file is not ours."""
    try:
        return Entry(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _write(folder: Path, entry: Entry) -> int | None:
    """Claim the name, until the file that is returned is closed; None if a running cluster has it.

    Its number tells readers on this machine; the lock tells launches, on others, too.
    """
    file = _file(folder, entry.name)
    with _one_writer(folder):
        old = _read(file)
        if (old and old.is_running) or _is_locked(file):
            return None
        draft = file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_RDWR | os.O_CREAT, 0o600)
        _claimed(handle)
        draft.write_text(json.dumps(asdict(entry)))
        draft.replace(file)
        return handle


def _is_locked(file: Path) -> bool:
    """Whether a process that lives has claimed this file, whatever its number or the clock says."""
    try:
        handle = os.open(file, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _claimed(handle)
    finally:
        os.close(handle)


def _claimed(handle: int) -> bool:
    """Whether this file is ours now; where locks are unknown, the number has to do."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log("cluster-not-locked", error=error)
    return True


@contextmanager
def _one_writer(folder: Path) -> Generator[None]:
    """Of two that start at once, one looks and writes at a time."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    ends_s = time.monotonic() + _LOCK_DEADLINE_S
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends_s:
                raise PreflightError(
                    f"{folder}: another launch has held it for {_LOCK_DEADLINE_S:g} s; end that one"
                ) from None
        time.sleep(0.005)
