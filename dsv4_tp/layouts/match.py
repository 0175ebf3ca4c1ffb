"""One tensor of our model and its entries in the files: what is there, missing, or wrong."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from dsv4_tp.layouts.formats import (
    FORMATS,
    FP8_BLOCK,
    PLAIN,
    Format,
    mlx_format,
    scale_dtypes,
    scale_shape,
    weight_dtypes,
    weight_shape,
)
from dsv4_tp.layouts.headers import Entry
from dsv4_tp.layouts.names import BIASES, NATIVE_SCALE, SCALES, FileNames
from dsv4_tp.layouts.source import Source, rows_of, stacked
from dsv4_tp.modelspec import Stored, Tensor

Entries = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Match:
    """What the files hold of one tensor: its source, or what is missing or wrong."""

    names: tuple[str, ...]  # all that it consumes
    source: Source | None = None
    missing: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()  # complaints


def match(tensor: Tensor, names: FileNames, entries: Entries, groups: int) -> Match:
    """Look a tensor's pieces up; `groups` is the number of output groups."""
    scales, biases = _beside(tensor, names, entries)
    all_names = (*names.weights, *scales, *biases)
    missing = tuple(name for name in all_names if name not in entries)
    if missing:
        return Match(all_names, missing=missing)
    kinds = (_take(entries, some) for some in (names.weights, scales, biases))
    found = _Found(tensor, names, *kinds)
    wrong = tuple(found.complaints(groups))
    return Match(all_names, wrong=wrong) if wrong else Match(all_names, found.source())


def _beside(
    tensor: Tensor, names: FileNames, entries: Entries
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of scales and biases that there must be."""
    if FORMATS[tensor.stored].quantised:
        return names.beside(NATIVE_SCALE), ()
    scales, biases = names.beside(SCALES), names.beside(BIASES)
    weight, scale = entries.get(names.weights[0]), entries.get(scales[0])
    packed = (weight is not None and weight.dtype == "U32") or scale is not None
    if not packed or not _may_be_packed(tensor):
        return (), ()
    affine = biases[0] in entries if scale is None else scale.dtype != "U8"
    return scales, biases if affine else ()


def _may_be_packed(tensor: Tensor) -> bool:
    """Whether MLX can hold the tensor packed, or we unpack it: matrices, but none kept in fp32."""
    return tensor.stored is Stored.BF16 and len(tensor.shape) > 1


def _take(entries: Entries, names: tuple[str, ...]) -> tuple[Entry, ...]:
    return tuple(entries[name] for name in names)


@dataclass(frozen=True, slots=True)
class _Found:
    """The entries of one tensor, all there."""

    tensor: Tensor
    names: FileNames
    weights: tuple[Entry, ...]
    scales: tuple[Entry, ...]
    biases: tuple[Entry, ...]

    def format(self) -> Format | None:
        """How the values are stored; None for packed values that no format of MLX explains."""
        native = FORMATS[self.tensor.stored]
        if native.quantised or not self.scales:
            return native
        weight, scales = self._typical()
        packed, groups = (entry.shape[-1] if entry.shape else 0 for entry in (weight, scales))
        return mlx_format(self.tensor.shape[-1], packed, groups, scales.dtype)

    def complaints(self, groups: int) -> Iterator[str]:
        """What is wrong with the entries; `groups` is the number of output groups."""
        form, shape = self.format(), self._piece_shape()
        if form is None:
            weight, scales = self._typical()
            yield (
                f"{weight} is {weight.dtype} {list(weight.shape)} with "
                f"{scales.name} {scales.dtype} {list(scales.shape)}, which for "
                f"{self.tensor.shape[-1]} columns is none of affine, mxfp4 and mxfp8"
            )
            return
        if form == FP8_BLOCK and len(self.tensor.shape) == 2 and len(self.weights) > 1:
            yield f"{self.weights[0].name} is FP8 in parts, whose blocks need not meet"
        dtypes = weight_dtypes(self.tensor.stored, form)
        yield from odd(self.weights, dtypes, self._shapes(weight_shape(shape, form), groups))
        if form.quantised:
            shapes = self._shapes(scale_shape(shape, form), groups)
            yield from odd(self.scales, scale_dtypes(form), shapes)
            yield from self._unlike_scales()

    def source(self) -> Source:
        """The source that entries without complaints make."""
        form = self.format() or PLAIN
        dtype = (self.scales if form.affine else self.weights)[0].dtype
        parts = (self._blocks(some) for some in (self.weights, self.scales, self.biases))
        return Source(self.tensor, form, dtype, *parts)

    def _typical(self) -> tuple[Entry, Entry]:
        """Weights and scales as most pieces have them, so that an odd one is the one named."""
        pairs = {(w.shape, s.shape, s.dtype): (w, s) for w, s in self._pairs()}
        counts = Counter((w.shape, s.shape, s.dtype) for w, s in self._pairs())
        return pairs[counts.most_common(1)[0][0]]

    def _pairs(self) -> Iterator[tuple[Entry, Entry]]:
        return zip(self.weights, self.scales, strict=True)

    def _unlike_scales(self) -> Iterator[str]:
        """Biases that do not go with their scales."""
        for scales, biases in zip(self.scales, self.biases, strict=bool(self.biases)):
            if (scales.dtype, scales.shape) != (biases.dtype, biases.shape):
                yield (
                    f"{biases} is {biases.dtype} {list(biases.shape)}, "
                    f"but {scales.name} is {scales.dtype} {list(scales.shape)}"
                )

    def _piece_shape(self) -> tuple[int, ...]:
        """The logical shape of what each name holds."""
        shape, (_, of) = self.tensor.shape, self.names.part
        if len(self.weights) == 1:
            return shape if of == 1 else (shape[0], of * shape[1], shape[2])
        # One name for each expert, or for each output group's rows.
        return shape[1:] if len(shape) == 3 else (shape[0] // len(self.weights), shape[1])

    def _shapes(self, shape: tuple[int, ...], groups: int) -> tuple[tuple[int, ...], ...]:
        """The shapes in which a piece may be written: wo_a also as a matrix for each group."""
        split = self.tensor.name.endswith(".wo_a.weight") and len(self.weights) == 1
        if split and not FORMATS[self.tensor.stored].native:
            return shape, (groups, shape[0] // groups, shape[1])
        return (shape,)

    def _blocks(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """The entries as blocks of two dimensions."""
        if len(entries) == 1 and len(entries[0].shape) == 3:
            part, of = self.names.part
            matrices = stacked(entries[0])
            if of == 1:
                return matrices
            rows = matrices[0].shape[0] // of
            return tuple(rows_of(matrix, part * rows, rows) for matrix in matrices)
        return entries


def odd(
    entries: tuple[Entry, ...], dtypes: tuple[str, ...], shapes: tuple[tuple[int, ...], ...]
) -> Iterator[str]:
    """The entries without one of the shapes or dtypes they must have; pieces share a dtype."""
    usual = Counter(entry.dtype for entry in entries).most_common(1)[0][0]
    dtypes = (usual,) if usual in dtypes else dtypes
    for entry in entries:
        if entry.dtype not in dtypes or entry.shape not in shapes:
            yield (
                f"{entry} is {entry.dtype} {list(entry.shape)}, "
                f"expected {' or '.join(dtypes)} {' or '.join(str(list(one)) for one in shapes)}"
            )
