"""Reading a model's directory, be it a checkpoint or a prepared set."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dsv4_tp.core import Part
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import (
    Catalog,
    Entry,
    Source,
    catalog,
    read_header,
    read_headers,
    weight_files,
    without_mtp,
)
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.pieces import Form, Groups, Load, Piece, Segment, cuts_by_group, forms, plan_loads
from dsv4_tp.prepared.make import file_name
from dsv4_tp.prepared.manifest import Manifest, is_set, read_manifest
from dsv4_tp.prepared.origin import fingerprint
from dsv4_tp.prepared.sink import rank_folder, read_digests
from dsv4_tp.rules import Cut, attention_of


def model_fingerprint(model_dir: Path) -> str:
    """Which checkpoint is in a directory, be it as a prepared set; see `fingerprint`.

    Raises:
        CheckpointError: it cannot be read.
    """
    if is_set(model_dir):
        return read_manifest(model_dir).fingerprint
    return fingerprint(weight_files(model_dir))


def read_catalog(model_dir: Path, spec: ModelSpec, *, mtp: bool) -> Catalog:
    """What fills the model, from the headers of a checkpoint or from a set's manifest.

    Raises:
        CheckpointError: the files are missing, damaged, or not that model's.
    """
    if not is_set(model_dir):
        return catalog(spec, read_headers(model_dir), mtp=mtp)
    found = read_manifest(model_dir).catalog(spec)
    return found if mtp else without_mtp(found)


def plan_reads(model_dir: Path, spec: ModelSpec, catalog: Catalog, part: Part) -> Groups:
    """All that a rank with `part` reads of the directory that `catalog` was read from.

    Raises:
        CheckpointError: it is a set that was made for other parts, or lacks some of this one's.
    """
    if not is_set(model_dir):
        return plan_loads(catalog, part, spec)
    rank = rank_of(model_dir, read_manifest(model_dir), part)
    folder = rank_folder(model_dir, rank)
    wanted = cuts_by_group(catalog, part, spec)
    _check_whole(folder, [file_name(group) for group in wanted])
    return {group: _loads(folder / file_name(group), held) for group, held in wanted.items()}


def check_ranks(
    model_dir: Path, spec: ModelSpec, parts: Sequence[Part], ranks: Sequence[int]
) -> None:
    """Raises CheckpointError if `ranks` of a plan with these parts could not load from here.

    Of a checkpoint this is not asked: it holds everything.
    """
    if not is_set(model_dir):
        return
    manifest = read_manifest(model_dir)
    found = manifest.catalog(spec)
    for rank in ranks:
        folder = rank_folder(model_dir, rank_of(model_dir, manifest, parts[rank], parts))
        names = cuts_by_group(without_mtp(found), parts[rank], spec)
        _check_whole(folder, [file_name(group) for group in names])


def rank_of(
    model_dir: Path, manifest: Manifest, part: Part, parts: Sequence[Part] | None = None
) -> int:
    """Whose files of a set hold this part, which is one of `parts` if these are known.

    Raises:
        CheckpointError: nobody's; the set was made for another plan.
    """
    if part in manifest.parts:
        return manifest.parts.index(part)
    plan = f"a plan of {len(parts)} ranks" if parts else "another plan"
    if parts and attention_of(parts) is not manifest.attention:
        plan += f", attention {attention_of(parts).value},"
    raise CheckpointError(
        f"{model_dir}: prepared for {manifest.purpose}, not for {plan} that shares the model out "
        "otherwise; make a set for it with `dsv4-tp shard`, or launch the checkpoint itself"
    )


def _check_whole(folder: Path, names: Sequence[str]) -> None:
    """Raises CheckpointError if not all of these files are finished."""
    whole = read_digests(folder)
    missing = [name for name in names if name not in whole]
    if missing:
        more = f" (+{len(missing) - 1} more)" if len(missing) > 1 else ""
        raise CheckpointError(
            f"{folder}: {len(missing)} of {len(names)} files are missing or unfinished: "
            f"{missing[0]}{more}; repeat the command that made the set, it goes on from there"
        )


def _loads(file: Path, held: Sequence[tuple[Source, Cut]]) -> list[Load]:
    entries = {entry.name: entry for entry in read_header(file)}
    loads = [_load(file, source, cut, entries) for source, cut in held]
    if entries:
        raise CheckpointError(f"{file}: {min(entries)} does not belong there; make the set again")
    return loads


def _load(file: Path, source: Source, cut: Cut, entries: dict[str, Entry]) -> Load:
    """Takes what it uses out of `entries`."""
    wanted = forms(source, cut)
    return Load(
        source, cut, {name: _piece(file, name, form, entries) for name, form in wanted.items()}
    )


def _piece(file: Path, name: str, form: Form, entries: dict[str, Entry]) -> Piece:
    entry = entries.pop(name, None)
    if entry is None:
        raise CheckpointError(f"{file}: {name} is not in it; make the set again")
    found = Form(entry.dtype, entry.shape)
    # A catalog without files cannot say whether FP8's scales are bytes or float32.
    if form.dtype == "U8" and found.dtype == "F32":
        form = replace(form, dtype="F32")
    if found != form:
        raise CheckpointError(
            f"{file}: {name} is {found.dtype} {list(found.shape)}, expected {form.dtype} "
            f"{list(form.shape)}; make the set again"
        )
    return Piece(found.dtype, found.shape, (_whole(entry),))


def _whole(entry: Entry) -> Segment:
    return Segment(entry.file, entry.offset, 1, entry.nbytes, 0, entry.nbytes)
