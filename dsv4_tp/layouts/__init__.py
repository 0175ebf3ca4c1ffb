"""Checkpoint files as data: what their headers hold, and which parameter each name fills."""

from dsv4_tp.layouts.catalog import catalog, native_catalog
from dsv4_tp.layouts.formats import BLOCK, GROUP, Format
from dsv4_tp.layouts.headers import Entry, read_headers
from dsv4_tp.layouts.source import Catalog, Dropped, Source

__all__ = [
    "BLOCK",
    "GROUP",
    "Catalog",
    "Dropped",
    "Entry",
    "Format",
    "Source",
    "catalog",
    "native_catalog",
    "read_headers",
]
