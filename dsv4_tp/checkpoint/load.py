"""From a catalog and a rank's part to parameters: what to read, and what it becomes.

Parameters come in groups, a layer each, so that no more than one group is in flight.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import mlx.core as mx

from dsv4_tp.checkpoint.convert import Raw, biases_name, finish, scales_name
from dsv4_tp.checkpoint.ranges import Piece, Segment, read_pieces
from dsv4_tp.core import DType, Part, Span
from dsv4_tp.layouts import BLOCK, FP8_BLOCK, Catalog, Entry, Source
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
    biases: Piece | None

    @property
    def pieces(self) -> dict[str, Piece]:
        """What is read for it, by the names of the parameters it becomes."""
        name = self.cut.name
        named = {name: self.weight, scales_name(name): self.scales, biases_name(name): self.biases}
        return {name: piece for name, piece in named.items() if piece is not None}

    @property
    def span_bytes(self) -> int:
        """Bytes that are read for it."""
        return sum(piece.span_bytes for piece in self.pieces.values())


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

    A quantised `X.weight` comes in MLX's form, with `X.scales` and, if it is affine, `X.biases`.

    Raises:
        CheckpointError: a file cannot be read, or a scale has no exact counterpart.
    """
    pieces = {name: piece for load in loads for name, piece in load.pieces.items()}
    arrays = read_pieces(pieces)
    ready: dict[str, mx.array] = {}
    for load in loads:
        name = load.cut.name
        raw = Raw(arrays[name], arrays.get(scales_name(name)), arrays.get(biases_name(name)))
        ready |= finish(load.source, load.cut, raw, dtype)
    mx.eval(ready)
    return ready


def _group(name: str) -> str:
    """A layer or stage with its number; else the module."""
    words = name.split(".")
    return ".".join(words[:2]) if words[0] in ("layers", "mtp") else words[0]


def _load(source: Source, cut: Cut) -> Load:
    return Load(source, cut, _weight(source, cut), _scales(source, cut), _biases(source, cut))


def _weight(source: Source, cut: Cut) -> Piece:
    *rows, columns = cut_shape(cut, source.tensor.shape)
    segments = _segments(source, source.weights, cut)
    if not source.format.quantised:
        return Piece(source.dtype, (*rows, columns), segments)
    # MLX holds quantised values packed in 32-bit words, in the order of the file's bytes.
    return Piece("U32", (*rows, columns * source.format.bits // 32), segments)


def _scales(source: Source, cut: Cut) -> Piece | None:
    if not source.format.quantised:
        return None
    if source.format == FP8_BLOCK:
        return _block_scales(source, cut)
    dtype = source.dtype if source.format.affine else "U8"
    return _by_group(source, source.scales, cut, dtype)


def _biases(source: Source, cut: Cut) -> Piece | None:
    return _by_group(source, source.biases, cut, source.dtype) if source.biases else None


def _by_group(source: Source, entries: Sequence[Entry], cut: Cut, dtype: str) -> Piece:
    """What there is one of for each group of a row's values."""
    *rows, columns = cut_shape(cut, source.tensor.shape)
    shape = (*rows, columns // source.format.group)
    return Piece(dtype, shape, _segments(source, entries, cut))


def _block_scales(source: Source, cut: Cut) -> Piece:
    """All columns of the blocks that hold the cut's rows."""
    blocks = cut.rows and Span(cut.rows.start // BLOCK, -(-cut.rows.stop // BLOCK))
    first = source.scales[0]
    experts = cut_shape(cut, source.tensor.shape)[:-2]
    shape = (*experts, len(blocks) if blocks else first.shape[0], first.shape[1])
    segments = _segments(source, source.scales, replace(cut, rows=blocks, columns=None))
    return Piece("F32" if first.dtype == "F32" else "U8", shape, segments)


def _segments(source: Source, blocks: Sequence[Entry], cut: Cut) -> tuple[Segment, ...]:
    """The bytes of the cut's part of a tensor that lies in these blocks."""
    width = source.tensor.shape[-1]
    pieces = (
        segment
        for entry, rows in _held_rows(source, blocks, cut)
        for segment in _of_entry(entry, rows, cut.columns, width)
    )
    return tuple(_joined(pieces))


def _held_rows(source: Source, blocks: Sequence[Entry], cut: Cut) -> Iterator[tuple[Entry, Span]]:
    """The blocks of which rows are held, and those rows."""
    if len(source.tensor.shape) == 3:
        held = cut.experts or Span(0, len(blocks))
        for entry in blocks[held.start : held.stop]:
            yield entry, cut.rows or Span(0, entry.shape[0])
        return
    size = blocks[0].shape[0]
    wanted = cut.rows or Span(0, size * len(blocks))
    for number, entry in enumerate(blocks):
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
