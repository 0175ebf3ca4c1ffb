"""Checkpoint files as data: what their headers hold, and which parameter each name fills."""

from dsv4_tp.layouts.catalog import Survey, catalog, native_catalog, survey_of, without_mtp
from dsv4_tp.layouts.formats import BLOCK, FP4, FP8_BLOCK, GROUP, PLAIN, Format
from dsv4_tp.layouts.headers import INDEX, Entry, read_header, read_headers, weight_files
from dsv4_tp.layouts.source import Catalog, Drafter, Dropped, Source

__all__ = [
    "BLOCK",
    "FP4",
    "FP8_BLOCK",
    "GROUP",
    "INDEX",
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
    "read_header",
    "read_headers",
    "survey_of",
    "weight_files",
    "without_mtp",
]
