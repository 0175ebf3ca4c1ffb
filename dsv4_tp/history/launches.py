"""Where the history of a launch lies, on each of its hosts, and which launches are remembered.

    launches/20261121T182616Z-lab/launch.json           what was launched (on the launching machine)
    launches/20261121T182616Z-lab/events.0              what happened (there, too)
    launches/20261121T182616Z-lab/mac-b/agent.0         (on mac-b)
    launches/20261121T182616Z-lab/mac-b/epoch-1.rank-0.0

All of it for its user only. The last few launches are kept, and those that still run.
"""

import fcntl
import os
import re
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.errors import PreflightError

EVENTS = "events"
LAUNCH_FILE = "launch.json"
_FOLDER = "launches"
_KEPT = 12
_LAUNCH = re.compile(r"\d{8}T\d{6}Z-([\w.-]+)")
_WORD = re.compile(r"[\w.:@-]+")  # a host's name
_SOURCE = re.compile(r"(?:agent|epoch-(\d+)\.rank-(\d+))\.\d+")


@dataclass(frozen=True, slots=True)
class Source:
    """Whose words a log holds: an agent's, or those of a rank in one epoch."""

    epoch: int = 0
    rank: int | None = None  # None: the agent

    @property
    def stem(self) -> str:
        """The name of its log."""
        return "agent" if self.rank is None else f"epoch-{self.epoch}.rank-{self.rank}"


def new_launch(name: str, now_s: float) -> str:
    """What a launch of this cluster at this time is called; later ones sort behind it."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(now_s))}-{name}"


def name_of(launch: str) -> str:
    """The name of the cluster; PreflightError for what is no launch."""
    found = _LAUNCH.fullmatch(launch)
    if found is None:
        raise PreflightError(f"{launch!r} does not name a launch")
    return found.group(1)


def launch_folder(state_dir: Path, launch: str) -> Path:
    """Where this machine's history of a launch lies; it need not be there."""
    name_of(launch)
    return state_dir / _FOLDER / launch


def host_folder(state_dir: Path, launch: str, host: str) -> Path:
    """Where a host's logs lie, on that host; PreflightError for what is no host's name."""
    if not _WORD.fullmatch(host) or host in (".", ".."):
        raise PreflightError(f"{host!r} cannot be a folder's name")
    return launch_folder(state_dir, launch) / host


def launches_of(state_dir: Path, name: str | None) -> list[str]:
    """The launches that are remembered here, the last one at the end; None: of all clusters."""
    found = [(each.name, _LAUNCH.fullmatch(each.name)) for each in (state_dir / _FOLDER).glob("*")]
    return sorted(launch for launch, match in found if match and name in (None, match.group(1)))


def sources(folder: Path) -> list[Source]:
    """The logs in a host's folder, the agent's first, then by epoch and rank."""
    matches = (_SOURCE.fullmatch(file.name) for file in folder.glob("*"))
    return sorted({_source(match) for match in matches if match}, key=_order)


@contextmanager
def open_launch(state_dir: Path, launch: str) -> Generator[Path]:
    """The folder of a launch, which is not forgotten within the block; old ones are.

    At the end it is kept if there is something in it.

    Raises:
        OSError: it cannot be made.
    """
    folder = launch_folder(state_dir, launch)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        for old in launches_of(state_dir, None)[:-_KEPT]:
            _forget(launch_folder(state_dir, old))
        yield folder
    finally:
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()


def _forget(folder: Path) -> None:
    """Unless it is in use."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # another launch has forgotten it just now
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return
    finally:
        os.close(handle)


def _source(match: re.Match[str]) -> Source:
    epoch, rank = match.groups()
    return Source() if epoch is None else Source(int(epoch), int(rank))


def _order(source: Source) -> tuple[int, int]:
    return source.epoch, -1 if source.rank is None else source.rank
