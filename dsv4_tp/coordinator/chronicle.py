"""What happened to a cluster, in order: a ring of numbered entries.

No file, socket or clock in here. The ring is the buffer between what happens, which never
waits, and readers, which may be slow: one that comes too late is told how many it has missed.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dsv4_tp.history import Entry

MOST = 1000


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth an entry; docs/commands.md lists the kinds."""

    kind: str
    text: str  # one line
    host: str = ""
    rank: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict[str, str])  # evidence, by name


class Chronicle:
    """The last entries of a cluster."""

    def __init__(self, most: int = MOST, *, kept: Sequence[Entry] = ()) -> None:
        """`kept`: what another coordinator has left of it, which goes on."""
        self._entries: deque[Entry] = deque(kept, maxlen=most)
        self.last_seq = kept[-1].seq if kept else 0

    def add(self, note: Note, *, epoch: int, time_s: float) -> Entry:
        """The next entry."""
        self.last_seq += 1
        entry = Entry(
            seq=self.last_seq,
            time_s=time_s,
            kind=note.kind,
            epoch=epoch,
            text=note.text,
            host=note.host,
            rank=note.rank,
            fields=note.fields,
        )
        self._entries.append(entry)
        return entry

    def since(self, seq: int) -> tuple[int, list[Entry]]:
        """How many entries after number `seq` are no longer kept, and those that are."""
        first = self.last_seq - len(self._entries) + 1
        return max(0, first - seq - 1), [entry for entry in self._entries if entry.seq > seq]
