"""From a catalog and a rank's part to what is read: byte ranges for each parameter to be.

They come in groups, a layer each, so that no more than one group is in flight.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dsv4_tp.core import Part, Span
from dsv4_tp.layouts import FP8_BLOCK, Catalog, Entry, Source
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.pieces.forms import Form, blocks, forms
from dsv4_tp.pieces.segments import Piece, Segment
from dsv4_tp.rules import Cut, cuts

# Rows that are cropped are read in runs of about this size.
_CROP_BYTES = 8 << 20

Groups = Mapping[str, Sequence["Load"]]  # by the group's name, in the order of the model


@dataclass(frozen=True, slots=True)
class Load:
    """One parameter to be: a cut of a source, and what is read for it.

    `pieces` are named as `forms` names them: the weight, its scales and biases if it has any.
    """

    source: Source
    cut: Cut
    pieces: Mapping[str, Piece]

    @property
    def span_bytes(self) -> int:
        """Bytes that are read for it."""
        return sum(piece.span_bytes for piece in self.pieces.values())


def cuts_by_group(
    catalog: Catalog, part: Part, spec: ModelSpec
) -> dict[str, list[tuple[Source, Cut]]]:
    """All that a rank with `part` holds, by the groups that are read together."""
    groups: dict[str, list[tuple[Source, Cut]]] = {}
    for source in catalog.sources:
        for cut in cuts(source.tensor, part, spec):
            groups.setdefault(_group(cut.name), []).append((source, cut))
    return groups


def plan_loads(catalog: Catalog, part: Part, spec: ModelSpec) -> Groups:
    """All that a rank with `part` reads from the files of a checkpoint."""
    groups = cuts_by_group(catalog, part, spec)
    return {name: [_load(source, cut) for source, cut in held] for name, held in groups.items()}


def _group(name: str) -> str:
    """A layer or stage with its number; else the module."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] in ("layers", "mtp") else words[0]


def _load(source: Source, cut: Cut) -> Load:
    of_scales = cut
    if source.format == FP8_BLOCK:
        of_scales = replace(cut, rows=blocks(cut.rows), columns=None)
    # In the order of `forms`.
    stored = ((source.weights, cut), (source.scales, of_scales), (source.biases, cut))
    pieces = {
        name: _piece(form, source, entries, own)
        for (name, form), (entries, own) in zip(forms(source, cut).items(), stored, strict=False)
    }
    return Load(source, cut, pieces)


def _piece(form: Form, source: Source, entries: Sequence[Entry], cut: Cut) -> Piece:
    return Piece(form.dtype, form.shape, _segments(source, entries, cut))


def _segments(source: Source, entries: Sequence[Entry], cut: Cut) -> tuple[Segment, ...]:
    """The bytes of the cut's part of a tensor that lies in these blocks."""
    width = source.tensor.shape[-1]
    pieces = (
        segment
        for entry, rows in _held_rows(source, entries, cut)
        for segment in _of_entry(entry, rows, cut.columns, width)
    )
    return tuple(_joined(pieces))


def _held_rows(source: Source, entries: Sequence[Entry], cut: Cut) -> Iterator[tuple[Entry, Span]]:
    """The blocks of which rows are held, and those rows."""
    if len(source.tensor.shape) == 3:
        held = cut.experts or Span(0, len(entries))
        for entry in entries[held.start : held.stop]:
            yield entry, cut.rows or Span(0, entry.shape[0])
        return
    size = entries[0].shape[0]
    wanted = cut.rows or Span(0, size * len(entries))
    for number, entry in enumerate(entries):
        start, stop = max(wanted.start, number * size), min(wanted.stop, (number + 1) * size)
        if start < stop:
            yield entry, Span(start - number * size, stop - number * size)


def _joined(segments: Iterable[Segment]) -> Iterator[Segment]:
    """Whole rows that follow each other in a file, as one segment."""
    last: Segment | None = None
    for segment in segments:
        if last is not None and _follows(segment, last):
            last = replace(last, rows=last.rows + segment.rows)
            continue
        if last is not None:
            yield last
        last = segment
    if last is not None:
        yield last


def _follows(segment: Segment, last: Segment) -> bool:
    whole = segment.take == segment.row_bytes == last.take == last.row_bytes
    return whole and segment.file == last.file and segment.offset == last.offset + last.nbytes


def _of_entry(entry: Entry, rows: Span, columns: Span | None, width: int) -> Iterator[Segment]:
    """Rows of `width` logical columns, however many bytes the entry has for them."""
    row_bytes = entry.nbytes // entry.shape[0]
    offset = entry.offset + rows.start * row_bytes
    if columns is None:
        yield Segment(entry.file, offset, len(rows), row_bytes, 0, row_bytes)
        return
    skip, skip_rest = divmod(columns.start * row_bytes, width)
    take, take_rest = divmod(len(columns) * row_bytes, width)
    assert skip_rest == take_rest == 0, f"{entry.name}: columns {columns} split a byte"
    most = max(1, _CROP_BYTES // row_bytes)
    for first in range(0, len(rows), most):
        count = min(most, len(rows) - first)
        yield Segment(entry.file, offset + first * row_bytes, count, row_bytes, skip, take)
