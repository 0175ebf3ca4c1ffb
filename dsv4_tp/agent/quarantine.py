"""Why a host has to be rebooted before ranks start there, kept on its disk for the next agent.

A reboot ends it. So does the end of the processes that outlived SIGKILL, if they were all there
was: memory that did not come back by then is not known to ever do so.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dsv4_tp.agent.boot import Boot, this_boot
from dsv4_tp.agent.ladder import longest_s
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import ConfigError
from dsv4_tp.log import log
from dsv4_tp.rpc.lives import SLACK_S, created

_FILE = "quarantine.note"  # no name that a cluster's file may have
_LOOK_S = 0.1
_PATIENCE_S = longest_s() + 0.5  # for killed processes to go: some hold 100 GB
_ALONE_S = 1.0  # for another writer

CreatedOf = Callable[[int], float | None]  # when a process was created; None: there is none


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that only a reboot ends, or the end of a process that does not end."""

    reason: str  # in words, with what to do
    pid: int = 0  # of that process; 0: there is none
    created_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Note:
    """All of them, since a boot."""

    boot: Boot
    causes: tuple[Cause, ...]


def standing(note: Note, boot: Boot, created_of: CreatedOf) -> Cause | None:
    """Why nothing may start on a host, now and in this boot; None: something may.

    What no process explains comes first, since it will not pass.
    """
    if not boot.is_same(note.boot):
        return None
    moved_s = boot.at_s - note.boot.at_s
    left = [cause for cause in note.causes if not _is_over(cause, created_of, moved_s)]
    return min(left, key=lambda cause: bool(cause.pid), default=None)


def added(note: Note | None, causes: Iterable[Cause], boot: Boot) -> Note:
    """The note with these causes more; one of another boot is forgotten."""
    new = tuple(causes)
    told = {cause.pid for cause in new if cause.pid}
    before = note.causes if note and boot.is_same(note.boot) else ()
    return Note(boot, (*(cause for cause in before if cause.pid not in told), *new))


def parsed(text: str) -> Note:
    """The note that was written; raises ValueError if it is none."""
    try:
        words = json.loads(text)
        boot = Boot(float(words["boot_s"]), str(words.get("boot_id", "")))
        return Note(boot, tuple(map(_cause, words["causes"])))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not what was written: {error!r}") from error


def known() -> str:
    """Why no epoch may start on this host, with what to do about it; empty: one may."""
    cause = _found()
    return f"{cause.reason}, or remove {_file()} if that is wrong" if cause else ""


def settled() -> str:
    """The same, when killed processes have had the time to go; may take as long as that."""
    ends_s = time.monotonic() + _PATIENCE_S
    while (cause := _found()) and cause.pid and time.monotonic() < ends_s:
        time.sleep(_LOOK_S)
    return known()


def keep(reason: str, pid: int = 0) -> None:
    """Write down that this host needs a reboot, or the end of the process `pid`, if there is one.

    Where that cannot be, only the next agent does not know.
    """
    cause = Cause(reason, pid, created(pid) or 0.0) if pid else Cause(reason)
    _change(lambda note: added(note, [cause], this_boot()))


def keep_living(pids: Iterable[int], *, killed_s: float) -> tuple[int, ...]:
    """Write down which of these processes, killed at that time, are not gone yet."""
    living = tuple(pid for pid in sorted(pids) if _is_older(pid, killed_s))
    causes = [
        Cause(f"pid {pid} outlived SIGKILL; reboot it", pid, created(pid) or 0.0) for pid in living
    ]
    if causes:
        _change(lambda note: added(note, causes, this_boot()))
    return living


def drop_gone(pids: Collection[int], *, killed_s: float, within_s: float) -> None:
    """Wait so long for processes that were written down; take out those that are gone."""
    ends_s, left = time.monotonic() + within_s, [*pids]
    while left and time.monotonic() < ends_s:
        time.sleep(_LOOK_S)
        left = [pid for pid in left if _is_older(pid, killed_s)]
    if gone := {*pids} - {*left}:
        _change(lambda note: note and _without(note, gone))


def _file() -> Path:
    return state_dir() / _FILE


def _found() -> Cause | None:
    try:
        note = _read(_file())
    except (OSError, ConfigError) as error:
        log("quarantine-unknown", error=error)
        return None
    return standing(note, this_boot(), created) if note else None


def _change(change: Callable[[Note | None], Note | None]) -> None:
    """Write another note in place of the one that is there; None, or one without a cause: none."""
    try:
        file = _file()
        with _alone(file.parent):
            note = change(_read(file))
            if note is None or not note.causes:
                file.unlink(missing_ok=True)
                return
            draft = file.with_suffix(f".{os.getpid()}")
            draft.write_text(_written(note))
            draft.replace(file)
    except (OSError, ConfigError) as error:
        log("quarantine-not-kept", error=error)


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """No other writer comes in between; one that is stopped is not waited for for ever."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        ends_s = time.monotonic() + _ALONE_S
        while not _locks(handle) and time.monotonic() < ends_s:
            time.sleep(_LOOK_S / 10)
        yield
    finally:
        os.close(handle)


def _locks(handle: int) -> bool:
    """Whether nobody else holds it; a disk without locks has nobody wait."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        log("quarantine-not-locked", error=error)
    return True


def _read(file: Path) -> Note | None:
    """What is written there; None if nothing is, or nothing that makes sense."""
    try:
        return parsed(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        log("quarantine-ignored", file=file, error=error)
        return None


def _cause(words: Mapping[str, object]) -> Cause:
    pid, created_s = words["pid"], words["created_s"]
    if not isinstance(pid, int) or pid < 0 or not isinstance(created_s, int | float):
        raise TypeError(f"pid {pid!r} created at {created_s!r}")
    return Cause(str(words["reason"]), pid, created_s)


def _written(note: Note) -> str:
    causes = [asdict(cause) for cause in note.causes]
    return json.dumps({"boot_s": note.boot.at_s, "boot_id": note.boot.id, "causes": causes})


def _without(note: Note, pids: Collection[int]) -> Note:
    return Note(note.boot, tuple(cause for cause in note.causes if cause.pid not in pids))


def _is_over(cause: Cause, created_of: CreatedOf, moved_s: float) -> bool:
    """Whether its process is gone; the clock has moved by that, and maybe all times with it."""
    if not cause.pid:
        return False
    created_s = created_of(cause.pid)
    if created_s is None:
        return True
    later_s = created_s - cause.created_s
    return min(abs(later_s), abs(later_s - moved_s)) > SLACK_S


def _is_older(pid: int, than_s: float) -> bool:
    """Whether there is such a process; a newer one has only got its number."""
    created_s = created(pid)
    return created_s is not None and created_s < than_s
