"""Sees every step of `state`, and keeps what is told of it: entries, ages of progress, waits.

The one place where the chronicle is fed. It decides nothing.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.chronicle import Chronicle, Note
from dsv4_tp.coordinator.cluster import ClusterState, cause
from dsv4_tp.coordinator.events import Action, Event
from dsv4_tp.coordinator.narrate import notes
from dsv4_tp.history import EVENTS, Entry, Segments, entry_to_json, read_entries

_FILE_BYTES = 4 << 20
_LAST_WAITS = 500  # requests, of which the waits for a first token are remembered


@dataclass(frozen=True, slots=True)
class _Progress:
    report: core.RankReport
    since_s: float


class Witness:
    """What became of one cluster, for whoever asks while it lives, and in a file for later."""

    def __init__(self, folder: Path) -> None:
        """Entries are kept in `folder`, too; they go on behind those that are there."""
        self._chronicle = Chronicle(kept=read_entries(folder, EVENTS, 0)[1])
        self._file = Segments(folder, EVENTS, limit_bytes=_FILE_BYTES)
        self._news = asyncio.Event()  # replaced whenever it is set
        self._closed = False
        self._progress: dict[int, _Progress] = {}
        self._waits: deque[float] = deque(maxlen=_LAST_WAITS)
        self.restarts: Counter[str] = Counter()  # since this process began, by cause

    def saw(
        self, before: ClusterState, event: Event, after: ClusterState, actions: tuple[Action, ...]
    ) -> None:
        """One step of the cluster."""
        if after.ranks is not before.ranks:
            self._look(after, time.monotonic())
        for action in actions:
            if isinstance(action, events.Deliver):
                self._count(action.event)
            if isinstance(action, events.StartEpoch) and before.epoch:
                self.restarts[cause(before)] += 1
        for note in notes(before, event, after, actions):
            self.tell(note, epoch=after.epoch)

    @property
    def last_seq(self) -> int:
        """The number of the last entry; 0: there is none yet."""
        return self._chronicle.last_seq

    def tell(self, note: Note, *, epoch: int) -> None:
        """An entry, for those who wait and for later."""
        entry = self._chronicle.add(note, epoch=epoch, time_s=time.time())
        self._file.write(f"{entry_to_json(entry)}\n".encode())
        self._wake()

    def close(self) -> None:
        """Nothing more will happen: those who follow have heard all."""
        self._closed = True
        self._wake()
        self._file.close()

    async def entries(
        self, since_seq: int, *, follow: bool
    ) -> AsyncGenerator[tuple[int, Sequence[Entry]]]:
        """Entries after that number, with how many before them were missed; `follow`: for ever."""
        while True:
            news = self._news
            missed, entries = self._chronicle.since(since_seq)
            if entries:
                since_seq = entries[-1].seq
                yield missed, entries
            elif not follow or self._closed:
                return
            else:
                await news.wait()

    def idle_s(self, rank: int, now_s: float) -> float:
        """For how long a rank's counters have stood still."""
        seen = self._progress.get(rank)
        return now_s - seen.since_s if seen else 0.0

    def first_token_s(self, *shares: float) -> tuple[float, ...]:
        """Within which time such shares of the last requests had their first token; () if none."""
        waits = sorted(self._waits)
        return tuple(
            waits[min(int(share * len(waits)), len(waits) - 1)] for share in shares if waits
        )

    def _look(self, state: ClusterState, now_s: float) -> None:
        for number, rank in state.ranks.items():
            seen = self._progress.get(number)
            if seen is None or seen.report != rank.report:
                self._progress[number] = _Progress(rank.report, now_s)

    def _count(self, told: core.Told) -> None:
        if isinstance(told, core.FinishEvent) and told.first_token_s is not None:
            self._waits.append(told.first_token_s)

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
