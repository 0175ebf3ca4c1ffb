"""Prepared sets for tests, made as the command makes them."""

from collections.abc import Sequence
from pathlib import Path

from dsv4_tp.core import AttentionSplit, ExpertSplit
from dsv4_tp.prepared import Project, fill_set, project, start_set


def begin(
    model_dir: Path,
    out: Path,
    weights: Sequence[int],
    experts: ExpertSplit = ExpertSplit.WIDTH,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> Project:
    """The set in `out` without any weights."""
    made = project(model_dir, tuple(weights), experts, attention)
    small = {name: file.read_bytes() for name, file in made.small_files.items()}
    start_set(out, made.manifest, small)
    return made


def prepare(
    model_dir: Path,
    out: Path,
    weights: Sequence[int],
    experts: ExpertSplit = ExpertSplit.WIDTH,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> Path:
    """The whole set."""
    fill_set(
        out, begin(model_dir, out, weights, experts, attention).files, lambda done, total: None
    )
    return out
