"""From a catalog and a rank's part to parameters: what to read, and what it becomes.

Parameters come in groups, a layer each, so that no more than one group is in flight.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import mlx.core as mx

from dsv4_tp.checkpoint.convert import finish, scales_name
from dsv4_tp.checkpoint.ranges import Piece, Segment, read_pieces
from dsv4_tp.core import DType, Part, Span
from dsv4_tp.layouts import BLOCK, GROUP, Catalog, Entry, Format, Source
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import Cut, cut_shape, cuts

# Rows that are cropped are read in runs of about this size.
_CROP_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Load:
    """One parameter to be: the piece of a source, and the byte ranges it is made of."""

    source: Source
    cut: Cut
    weight: Piece
    scales: Piece | None

    @property
    def span_bytes(self) -> int:
        """Bytes that are read for it."""
        return self.weight.span_bytes + (self.scales.span_bytes if self.scales else 0)


def plan_loads(catalog: Catalog, part: Part, spec: ModelSpec) -> tuple[tuple[Load, ...], ...]:
    """All that a rank with `part` reads, in groups to be read together."""
    loads = (
        _load(source, cut) for source in catalog.sources for cut in cuts(source.tensor, part, spec)
    )
    return tuple(
        tuple(group) for _, group in groupby(loads, key=lambda load: _group(load.cut.name))
    )


def read_group(loads: Sequence[Load], dtype: DType | None) -> dict[str, mx.array]:
    """The parameters of one group by name, evaluated; unquantised ones as `dtype`.

    A quantised `X.weight` comes with `X.scales`, in the form of MLX's mxfp8 or mxfp4.

    Raises:
        CheckpointError: a file cannot be read, or a scale has no exact counterpart.
    """
    weights = {load.cut.name: load.weight for load in loads}
    scales = {scales_name(load.cut.name): load.scales for load in loads if load.scales}
    raw = read_pieces(weights | scales)
    ready: dict[str, mx.array] = {}
    for load in loads:
        name = load.cut.name
        ready |= finish(load.source, load.cut, raw[name], raw.get(scales_name(name)), dtype)
    mx.eval(ready)
    return ready


def _group(name: str) -> str:
    """A layer or stage with its number; else the module."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] in ("layers", "mtp") else words[0]


def _load(source: Source, cut: Cut) -> Load:
    held = cut.experts or Span(0, len(source.weights))
    weights, scales = (
        entries[held.start : held.stop] for entries in (source.weights, source.scales)
    )
    return Load(source, cut, _weight(source, cut, weights), _scales(source, cut, scales))


def _weight(source: Source, cut: Cut, entries: Sequence[Entry]) -> Piece:
    shape = cut_shape(cut, source.tensor.shape)
    segments = _segments(source, entries, cut.rows, cut.columns)
    if not source.format.quantised:
        return Piece(source.dtype, shape, segments)
    # MLX holds quantised values packed in 32-bit words, in the order of the file's bytes.
    return Piece("U32", (*shape[:-1], shape[-1] * source.format.bits // 32), segments)


def _scales(source: Source, cut: Cut, entries: Sequence[Entry]) -> Piece | None:
    if not source.format.quantised:
        return None
    *experts, rows, columns = cut_shape(cut, source.tensor.shape)
    if source.format is Format.FP4:
        segments = _segments(source, entries, cut.rows, cut.columns)
        return Piece("U8", (*experts, rows, columns // GROUP), segments)
    blocks = cut.rows and Span(cut.rows.start // BLOCK, -(-cut.rows.stop // BLOCK))
    whole_rows, whole_columns = entries[0].shape
    shape = (*experts, len(blocks) if blocks else whole_rows, whole_columns)
    segments = _segments(source, entries, blocks, None)
    return Piece("F32" if entries[0].dtype == "F32" else "U8", shape, segments)


def _segments(
    source: Source, entries: Sequence[Entry], rows: Span | None, columns: Span | None
) -> tuple[Segment, ...]:
    """The bytes of the same rows and columns (None: all) of each entry."""
    width = source.tensor.shape[-1]
    return tuple(
        segment
        for entry in entries
        for segment in _of_entry(entry, rows or Span(0, entry.shape[0]), columns, width)
    )


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
