"""Snapshots of the caches, from which prompts that begin alike go on.

`index` decides, purely, what is kept, found and given up; `shelf` holds the arrays; `files` has
them on disk, for the next launch.
"""

from dsv4_tp.prefixes.files import Folder, open_folder
from dsv4_tp.prefixes.index import (
    Entry,
    Index,
    Match,
    digest_of,
    find,
    is_border,
    used,
    with_entries,
    without,
)
from dsv4_tp.prefixes.shelf import Shelf

__all__ = [
    "Entry",
    "Folder",
    "Index",
    "Match",
    "Shelf",
    "digest_of",
    "find",
    "is_border",
    "open_folder",
    "used",
    "with_entries",
    "without",
]
