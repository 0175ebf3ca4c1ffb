"""How far something is: bars on a terminal, and lines or nothing elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from dsv4_tp.cli.tables import GB, note

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_TELL_S = 5.0


class Bars:
    """A bar on stderr for each thing that has begun; gone when something else is said."""

    def __init__(self) -> None:
        self._shown: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Bars":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def show(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """This is so far."""
        shown = self._shown or self._open()
        if what not in self._tasks:
            self._tasks[what] = shown.add_task(what)
        shown.update(self._tasks[what], completed=done_bytes, total=total_bytes)

    def note(self, line: str) -> None:
        """A line, which stays."""
        self._close()
        note(line)

    def _open(self) -> "Progress":
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        name = TextColumn("{task.description}", markup=False)
        stderr = Console(file=sys.stderr)
        self._shown = Progress(name, BarColumn(), *columns, console=stderr, transient=True)
        self._shown.start()
        return self._shown

    def _close(self) -> None:
        if self._shown:
            self._shown.stop()
        self._shown = None
        self._tasks.clear()


class Lines:
    """The same as lines, of each thing one every few seconds."""

    def __init__(self, tell_s: float = _TELL_S) -> None:
        self._tell_s = tell_s
        self._told_s: dict[str, float] = {}

    def show(self, what: str, done_bytes: int, total_bytes: int) -> None:
        """This is so far."""
        now_s = time.monotonic()
        if now_s - self._told_s.setdefault(what, now_s) >= self._tell_s:
            self._told_s[what] = now_s
            note(f"{what}: {done_bytes * 100 // total_bytes} % of {total_bytes / GB:.1f} GB sent")


def somebody_looks() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr.isatty()
