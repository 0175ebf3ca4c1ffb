"""Parameters from arrays that are already loaded, for callers that read files their own way."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx

from dsv4_tp.checkpoint.convert import Raw, finish
from dsv4_tp.core import DType
from dsv4_tp.layouts import Catalog, Entry, Source, catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import cuts

# Stands for the file in messages.
_NOWHERE = Path("memory", "the given arrays")

# What `mx.load` makes of a file's dtypes, the other way round; uint8 stands for three of them.
_DTYPES = {
    mx.float32: "F32",
    mx.bfloat16: "BF16",
    mx.float16: "F16",
    mx.int64: "I64",
    mx.int32: "I32",
    mx.int8: "I8",
    mx.uint32: "U32",
}


@dataclass(frozen=True, slots=True)
class Adopted:
    """The parameters of a model by name, and where each came from."""

    parameters: dict[str, mx.array]
    catalog: Catalog


def adopt(
    spec: ModelSpec,
    arrays: Mapping[str, mx.array],
    *,
    mtp: bool = False,
    dtype: DType | None = None,
) -> Adopted:
    """The parameters of the whole model from `arrays` with the names and values of its files.

    Names and formats of the result are those of `read_group`. Nothing is evaluated, but float32
    scales are.

    Raises:
        CheckpointError: as `catalog` does.
    """
    entries = {name: _entry(name, array) for name, array in arrays.items()}
    found = catalog(spec, entries, mtp=mtp)
    ready: dict[str, mx.array] = {}
    for source in found.sources:
        weight = _gather(source, source.weights, arrays)
        raw = Raw(
            weight.view(mx.uint32) if source.format.quantised else weight,
            _gather(source, source.scales, arrays) if source.scales else None,
            _gather(source, source.biases, arrays) if source.biases else None,
        )
        (cut,) = cuts(source.tensor, spec.whole, spec)
        ready |= finish(source, cut, raw, dtype)
    return Adopted(ready, found)


def _gather(source: Source, blocks: tuple[Entry, ...], arrays: Mapping[str, mx.array]) -> mx.array:
    """The whole tensor from its blocks: experts stacked, rows one below the other."""
    experts = len(source.tensor.shape) == 3
    first = arrays[blocks[0].name]
    if first.nbytes == sum(block.nbytes for block in blocks):
        # One array holds it all, maybe in other dimensions.
        shape = (len(blocks), *blocks[0].shape) if experts else (-1, *blocks[0].shape[1:])
        return first.reshape(shape)
    found = [_block(block, arrays[block.name]) for block in blocks]
    return mx.stack(found) if experts else mx.concatenate(found)


def _block(block: Entry, array: mx.array) -> mx.array:
    """The part of an array that a block stands for."""
    # The block's offset counts the bytes before it, which are whole rows of its width.
    row = block.offset // (block.nbytes // block.shape[0])
    return array.reshape(-1, block.shape[-1])[row : row + block.shape[0]]


def _entry(name: str, array: mx.array) -> Entry:
    bytes_of = {".scale": "F8_E8M0", ".scales": "U8"}
    byte = bytes_of.get(name[name.rfind(".") :], "F8_E4M3")
    dtype = byte if array.dtype == mx.uint8 else _DTYPES.get(array.dtype, str(array.dtype))
    return Entry(name, dtype, array.shape, _NOWHERE, 0, array.nbytes)
