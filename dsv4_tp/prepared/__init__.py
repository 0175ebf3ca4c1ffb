"""Prepared sets: each rank's own bytes in files of its own. A set stands in for a checkpoint.

    config.json, tokenizer.json, ...   as in the checkpoint
    prepared.json                      what it was made from, and for which parts
    rank-0/layers.0.safetensors ...    a rank's pieces as they lay in the checkpoint, a layer each
    rank-0/digests.jsonl               the files that are whole, with their sha256

A host needs the folders of its own ranks only.
"""

from dsv4_tp.prepared.make import (
    CHUNK_BYTES,
    RankFile,
    check_space,
    fill_set,
    rank_files,
    start_set,
)
from dsv4_tp.prepared.manifest import (
    Manifest,
    is_set,
    manifest_of,
    parse_manifest,
    read_manifest,
)
from dsv4_tp.prepared.origin import Origin, Stamp, fingerprint, small_files
from dsv4_tp.prepared.project import Project, project
from dsv4_tp.prepared.reading import (
    check_ranks,
    model_fingerprint,
    plan_reads,
    rank_of,
    read_catalog,
)
from dsv4_tp.prepared.sink import Sink, Whole, Writing, rank_folder, read_digests

__all__ = [
    "CHUNK_BYTES",
    "Manifest",
    "Origin",
    "Project",
    "RankFile",
    "Sink",
    "Stamp",
    "Whole",
    "Writing",
    "check_ranks",
    "check_space",
    "fill_set",
    "fingerprint",
    "is_set",
    "manifest_of",
    "model_fingerprint",
    "parse_manifest",
    "plan_reads",
    "project",
    "rank_files",
    "rank_folder",
    "rank_of",
    "read_catalog",
    "read_digests",
    "read_manifest",
    "small_files",
    "start_set",
]
