"""The guard: a small process that kills an agent's ranks when the agent cannot.

The agent tells it process ids by a pipe. When the pipe closes, for the agent is dead, or stays
silent for too long, for the agent is stopped or stuck, what is still listed is killed.
It works the same on Linux and macOS, and also while a rank holds its interpreter's lock.

    +PID    kill this process group in time of need
    -PID    forget it
    =S      from now on a silence of S seconds is a time of need
    (empty) still here
"""

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

_CLOSE_S = 2.0
_GUARD_ARGV = (sys.executable, "-m", "dsv4_tp", "guard")


class Guard:
    """The agent's side of the pipe. A guard that died is replaced at the next word."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._silence_s: float | None = None
        self._process = _start()

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
            self._process.wait()
            self._process = _start()
            for line in (f"={self._silence_s}", *(f"+{pid}" for pid in self._pids)):
                self._write(line)

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")


def run() -> None:
    """Be the guard until the agent ends."""
    pids: set[int] = set()
    silence_s: float | None = None
    buffer = b""
    # The agent stops its ranks by itself; a signal to everybody must not end their guard first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while select.select([0], [], [], silence_s)[0] and (data := os.read(0, 4096)):
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            silence_s = _heed(line.decode(), pids, silence_s)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def _heed(line: str, pids: set[int], silence_s: float | None) -> float | None:
    """Update `pids` by one line; the silence that is allowed from now on."""
    sign, number = line[:1], line[1:]
    if sign == "+":
        pids.add(int(number))
    elif sign == "-":
        pids.discard(int(number))
    return float(number) if sign == "=" else silence_s


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
