"""Checkpoint files as data: what their headers hold, and which parameter each name fills."""

from dsv4_tp.layouts.catalog import Survey, catalog, native_catalog, survey_of
from dsv4_tp.layouts.formats import BLOCK, FP4, FP8_BLOCK, GROUP, PLAIN, Format
from dsv4_tp.layouts.headers import Entry, read_headers
from dsv4_tp.layouts.source import Catalog, Drafter, Dropped, Source

__all__ = [
    "BLOCK",
    "FP4",
    "FP8_BLOCK",
    "GROUP",
    "PLAIN",
    "Catalog",
    "Drafter",
    "Dropped",
    "Entry",
    "Format",
    "Source",
    "Survey",
    "catalog",
    "native_catalog",
    "read_headers",
    "survey_of",
]
