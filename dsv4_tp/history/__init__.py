"""What is kept of a launch when it is over: its events and its logs, in bounded files.

Knows files and their bounds; what is written into them, and by whom, is not its business.
"""

from dsv4_tp.history.entry import Entry, entry_from_json, entry_to_json, read_entries
from dsv4_tp.history.launches import (
    EVENTS,
    LAUNCH_FILE,
    Source,
    host_folder,
    launch_folder,
    launches_of,
    name_of,
    new_launch,
    open_launch,
    sources,
)
from dsv4_tp.history.segments import Piece, Segments, ends_at, read_piece

__all__ = [
    "EVENTS",
    "LAUNCH_FILE",
    "Entry",
    "Piece",
    "Segments",
    "Source",
    "ends_at",
    "entry_from_json",
    "entry_to_json",
    "host_folder",
    "launch_folder",
    "launches_of",
    "name_of",
    "new_launch",
    "open_launch",
    "read_entries",
    "read_piece",
    "sources",
]
