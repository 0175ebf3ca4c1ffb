"""Parameters from arrays that are already loaded, for callers that read files their own way."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from dsv4_tp.checkpoint.convert import finish
from dsv4_tp.core import DType
from dsv4_tp.layouts import Entry, Source, catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import cuts

# Stands for the file in messages.
_NOWHERE = Path("memory", "the given arrays")

# What `mx.load` makes of a file's dtypes, the other way round; uint8 stands for FP8's two.
_DTYPES = {
    mx.float32: "F32",
    mx.bfloat16: "BF16",
    mx.float16: "F16",
    mx.int64: "I64",
    mx.int32: "I32",
    mx.int8: "I8",
}


def adopt(
    spec: ModelSpec,
    arrays: Mapping[str, mx.array],
    *,
    mtp: bool = False,
    dtype: DType | None = None,
) -> dict[str, mx.array]:
    """The parameters of the whole model from `arrays` with the names and values of its files.

    Names and formats of the result are those of `read_group`. Nothing is evaluated, but float32
    scales are.

    Raises:
        CheckpointError: as `catalog` does.
    """
    entries = {name: _entry(name, array) for name, array in arrays.items()}
    ready: dict[str, mx.array] = {}
    for source in catalog(spec, entries, mtp=mtp).sources:
        weight = _gather(source, source.weights, arrays)
        scales = _gather(source, source.scales, arrays) if source.scales else None
        raw = weight.view(mx.uint32) if source.format.quantised else weight
        (cut,) = cuts(source.tensor, spec.whole, spec)
        ready |= finish(source, cut, raw, scales, dtype)
    return ready


def _gather(source: Source, entries: tuple[Entry, ...], arrays: Mapping[str, mx.array]) -> mx.array:
    """Experts come one by one and leave stacked."""
    found = [arrays[entry.name] for entry in entries]
    return mx.stack(found) if len(source.tensor.shape) == 3 else found[0]


def _entry(name: str, array: mx.array) -> Entry:
    fp8 = "F8_E8M0" if name.endswith(".scale") else "F8_E4M3"
    dtype = fp8 if array.dtype == mx.uint8 else _DTYPES.get(array.dtype, str(array.dtype))
    return Entry(name, dtype, array.shape, _NOWHERE, 0, array.nbytes)
