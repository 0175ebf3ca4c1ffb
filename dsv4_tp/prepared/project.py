"""A set that is to be: which manifest it gets and which files."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.core import AttentionSplit, ExpertSplit
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.modelspec import read_spec
from dsv4_tp.pieces import plan_loads
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared.make import RankFile, rank_files
from dsv4_tp.prepared.manifest import Manifest, is_set, manifest_of
from dsv4_tp.prepared.origin import fingerprint, small_files


@dataclass(frozen=True, slots=True)
class Project:
    """A prepared set before its weights are written."""

    manifest: Manifest
    files: tuple[RankFile, ...]  # of all ranks, those of one group beside each other
    small_files: Mapping[str, Path]  # by their names within the set

    def of(self, ranks: Iterable[int]) -> tuple[RankFile, ...]:
        """The files of these ranks."""
        held = frozenset(ranks)
        return tuple(file for file in self.files if file.rank in held)


def project(
    model_dir: Path,
    weights: tuple[int, ...],
    experts: ExpertSplit,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> Project:
    """The set of the checkpoint in `model_dir`, MTP stages included, shared out by `weights`.

    Raises:
        ModelError, CheckpointError: the files are not those of one DeepSeek-V4 model, or are a
            prepared set already.
        PlanError: the model cannot be shared out so.
    """
    if is_set(model_dir):
        raise CheckpointError(f"{model_dir}: a prepared set already; give the checkpoint itself")
    spec = read_spec(model_dir)
    entries = read_headers(model_dir)
    found = catalog(spec, entries, mtp=True)
    plan = make_plan(spec, found, weights, expert_split=experts, attention=attention)
    manifest = manifest_of(
        found,
        fingerprint=fingerprint({entry.file for entry in entries.values()}),
        weights=weights,
        experts=experts,
        parts=plan.parts,
    )
    by_rank = (rank_files(rank, plan_loads(found, p, spec)) for rank, p in enumerate(plan.parts))
    files = [file for files in by_rank for file in files]
    order = {name: number for number, name in enumerate(dict.fromkeys(file.name for file in files))}
    files.sort(key=lambda file: (order[file.name], file.rank))
    return Project(manifest, tuple(files), small_files(model_dir))
