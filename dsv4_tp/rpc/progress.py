"""The progress page: a small mapped file of counters that a rank bumps and its agent reads.

A rank stuck in a collective answers no call, so its progress must be readable without it.
The file is a row of little-endian u64 slots in the order of `_SLOTS`; each is written whole.
"""

import mmap
import struct
import sys
from pathlib import Path

from dsv4_tp.core import RankReport

# Phases, and how each reads in a verdict: "killed by SIGKILL while decoding".
DOING = {
    "starting": "starting",
    "prepared": "waiting for the others to prepare",
    "joining": "joining the other ranks",
    "loading": "loading",
    "ready": "idle",
    "compiling": "compiling a JSON schema",
    "prefill": "reading a prompt",
    "decode": "decoding",
    "leaving": "leaving",
}
PHASES = tuple(DOING)

_SLOTS = (
    "pid",
    "phase",  # index into PHASES
    "bytes_loaded",
    "bytes_total",
    "prefill_tokens",
    "decode_steps",
    "active_bytes",
    "peak_bytes",
    "beats",
    "waits",
    "calls",
)
_PAGE_BYTES = 8 * len(_SLOTS)


class ProgressPage:
    """The writing side, for the one process whose progress it is."""

    def __init__(self, path: Path, *, pid: int) -> None:
        """Creates the page at `path`, all zero but the pid; its phase is "starting"."""
        assert sys.byteorder == "little", "slots are stored as the machine keeps them"
        path.write_bytes(bytes(_PAGE_BYTES))
        with path.open("r+b") as file:
            # A store of one aligned word is seen whole by the reader or not at all.
            self._slots = memoryview(mmap.mmap(file.fileno(), _PAGE_BYTES)).cast("Q")
        self._set("pid", pid)

    def phase(self, phase: str) -> None:
        """Enter a phase, by its word in PHASES."""
        self._set("phase", PHASES.index(phase))

    def loaded(self, done_bytes: int, total_bytes: int) -> None:
        """So much of the rank's share of the checkpoint has been read."""
        self._set("bytes_total", total_bytes)
        self._set("bytes_loaded", done_bytes)

    def prefilled(self, tokens: int) -> None:
        """So many more prompt tokens were fed."""
        self._add("prefill_tokens", tokens)

    def decoded(self) -> None:
        """One more decode step is done."""
        self._add("decode_steps", 1)

    def beat(self) -> None:
        """It waits to be told to join, and could hear it."""
        self._add("beats", 1)

    def memory(self, active_bytes: int, peak_bytes: int) -> None:
        """What MLX holds now, and the most it ever held."""
        self._set("active_bytes", active_bytes)
        self._set("peak_bytes", peak_bytes)

    def turned(self) -> None:
        """It may wait for other ranks from now on, or has done with that."""
        self._add("waits", 1)

    def called(self) -> None:
        """It leaves its own code for MLX's, or is back."""
        self._add("calls", 1)

    def _set(self, slot: str, value: int) -> None:
        self._slots[_SLOTS.index(slot)] = value

    def _add(self, slot: str, value: int) -> None:
        self._slots[_SLOTS.index(slot)] += value


def read_report(path: Path, *, rank: int) -> RankReport:
    """What the page says of its rank; a rank that has not made its page yet is "starting"."""
    page = path.read_bytes() if path.exists() else b""
    if len(page) < _PAGE_BYTES:
        return RankReport(rank=rank, phase=PHASES[0])
    numbers: tuple[int, ...] = struct.unpack(f"<{len(_SLOTS)}Q", page)
    slots = dict(zip(_SLOTS, numbers, strict=True))
    return RankReport(rank=rank, phase=PHASES[slots.pop("phase")], **slots)
