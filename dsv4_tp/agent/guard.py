"""The guard: a small process that kills an agent's ranks when the agent cannot.

The agent tells it process ids by a pipe. When the pipe closes, for the agent is dead, or stays
silent for too long, for the agent is stopped or stuck, what is still listed is killed.
It works the same on Linux and macOS, and also while a rank holds its interpreter's lock.

    +PID    kill this process group in time of need
    -PID    forget it
    =S      from now on a silence of S seconds is a time of need
    /PATH   remove this directory at the end
    (empty) still here
"""

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_CLOSE_S = 2.0
_GONE_S = 5.0  # for what was killed
_GUARD_ARGV = (sys.executable, "-m", "dsv4_tp", "guard")


class Guard:
    """The agent's side of the pipe. A guard that died is replaced at the next word."""

    def __init__(self, folder: Path) -> None:
        """`folder` is removed when the agent has ended, however it did."""
        self._folder = folder.absolute()
        self._pids: set[int] = set()
        self._silence_s: float | None = None
        self._process = _start()
        self._say(str(self._folder))

    def watch(self, pid: int) -> None:
        """Kill this process group if I die."""
        self._pids.add(pid)
        self._say(f"+{pid}")

    def forget(self, pid: int) -> None:
        """This process group is gone; its number may be given to somebody else."""
        self._pids.discard(pid)
        self._say(f"-{pid}")

    def beat(self, silence_s: float) -> None:
        """I am alive; believe me dead after so long a silence."""
        word = "" if silence_s == self._silence_s else f"={silence_s}"
        self._silence_s = silence_s
        self._say(word)

    def close(self) -> None:
        """End the guard; what it still watches is killed."""
        try:
            self._process.communicate(timeout=_CLOSE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, word: str) -> None:
        try:
            self._write(word)
        except BrokenPipeError:
            self.close()
            self._process = _start()
            for line in self._all():
                self._write(line)

    def _all(self) -> list[str]:
        silence = [] if self._silence_s is None else [f"={self._silence_s}"]
        return [str(self._folder), *silence, *(f"+{pid}" for pid in self._pids)]

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")


@dataclass(slots=True)
class _Charge:
    """What a guard was told."""

    pids: set[int] = field(default_factory=set[int])
    silence_s: float | None = None
    folder: Path | None = None

    def heed(self, line: str) -> None:
        """Take in one line of the agent."""
        sign, rest = line[:1], line[1:]
        match sign:
            case "+":
                self.pids.add(int(rest))
            case "-":
                self.pids.discard(int(rest))
            case "=":
                self.silence_s = float(rest)
            case "/":
                self.folder = Path(line)
            case _:
                pass

    def clear(self) -> None:
        """Leave nothing of it; what takes its time to go is written down for the next agent."""
        killed_s = time.time()
        for pid in self.pids:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self.pids:
            # Only in time of need: a guard is a small process.
            from dsv4_tp.agent import quarantine

            # At once: another agent may be there in a second.
            living = quarantine.keep_living(self.pids, killed_s=killed_s)
            quarantine.drop_gone(living, killed_s=killed_s, within_s=_GONE_S)


def run() -> None:
    """Be the guard until the agent ends."""
    # The agent stops its ranks by itself; a signal to everybody must not end their guard first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    charge, rest = _Charge(), b""
    while select.select([0], [], [], charge.silence_s)[0] and (data := os.read(0, 4096)):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            charge.heed(line.decode())
    charge.clear()


def _start() -> subprocess.Popen[bytes]:
    # Unbuffered, and in a session of its own: a terminal's Ctrl-C is not for the guard.
    return subprocess.Popen(
        _GUARD_ARGV,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,  # ours may be an ssh that waits until nobody holds it
        bufsize=0,
        start_new_session=True,
    )
