"""One thing that happened to a cluster, and how it is written down: a line of JSON."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dsv4_tp.history.segments import read_piece

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, as people and programs read it."""

    seq: int  # from 1, without gaps
    time_s: float  # since 1970
    kind: str  # such as `rank-lost`; docs/commands.md lists them
    epoch: int  # 0: before the first one
    text: str  # one line
    host: str = ""
    rank: int | None = None
    fields: Mapping[str, str] = field(default_factory=dict[str, str])  # evidence, by name


def entry_to_json(entry: Entry) -> str:
    """A line without its end."""
    return json.dumps(asdict(entry))


def entry_from_json(line: str | bytes) -> Entry | None:
    """What a line says; None for half a line, as a crash leaves it."""
    try:
        found: dict[str, Any] = json.loads(line)
        return Entry(**found)
    except (ValueError, TypeError):
        return None


def read_entries(folder: Path, stem: str, since_seq: int) -> tuple[int, list[Entry]]:
    """The entries after `since_seq` that are kept, and how many are not."""
    offset, data = 0, b""
    while (piece := read_piece(folder, stem, offset, _PIECE_BYTES)).data:
        offset, data = piece.end, data + piece.data
    kept = [entry for line in data.splitlines() if (entry := entry_from_json(line))]
    entries = [entry for entry in kept if entry.seq > since_seq]
    return (max(0, entries[0].seq - since_seq - 1) if entries else 0), entries
