"""The files' formats as MLX's, bit for bit: nothing is dequantised and quantised again.

Pure functions on arrays; raw weights are the file's bytes, seen as uint32 where quantised.
"""

from dataclasses import dataclass

import mlx.core as mx

from dsv4_tp.core import DType, Span
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import BLOCK, FP8_BLOCK, GROUP, Format, Source
from dsv4_tp.pieces import biases_name, scales_name
from dsv4_tp.rules import Cut

_DTYPES = {"I32": mx.int32, "F32": mx.float32, "BF16": mx.bfloat16, "F16": mx.float16}


@dataclass(frozen=True, slots=True)
class Raw:
    """What was read for one parameter, as it lies in the files."""

    weight: mx.array
    scales: mx.array | None = None
    biases: mx.array | None = None


def finish(source: Source, cut: Cut, raw: Raw, wanted: DType | None) -> dict[str, mx.array]:
    """The parameters, by name, of one cut whose piece is `raw`.

    The scales of an FP8 source are all columns of the blocks that hold the piece's rows, all
    others those of the piece. Unquantised values become `wanted` where they may.

    Raises:
        CheckpointError: a float32 scale has no exact counterpart.
    """
    dtype = _DTYPES[source.held_dtype(wanted)]
    if raw.scales is None:
        return {cut.name: raw.weight.astype(dtype)}
    scales, form = _scales(source, cut, raw.scales), source.format
    if not source.held.quantised:
        return {cut.name: _unpacked(form, raw, scales).astype(dtype)}
    beside = {scales_name(cut.name): scales, biases_name(cut.name): raw.biases}
    found = {name: array for name, array in beside.items() if array is not None}
    if form.affine:
        found = {name: array.astype(dtype) for name, array in found.items()}
    return {cut.name: raw.weight, **found}


def _scales(source: Source, cut: Cut, scales: mx.array) -> mx.array:
    """The scales of a cut in MLX's form."""
    if source.format.affine:
        return scales
    scales = e8m0(scales, source.tensor.name)
    if source.format != FP8_BLOCK:
        return scales
    *_, rows, columns = source.tensor.shape
    return block_scales(scales, cut.rows or Span(0, rows), cut.columns or Span(0, columns))


def _unpacked(form: Format, raw: Raw, scales: mx.array) -> mx.array:
    """The values in float32."""
    if form.affine:
        # An affine value is computed in the dtype of its scale.
        scales = scales.astype(mx.float32)
    return mx.dequantize(
        raw.weight,
        scales,
        None if raw.biases is None else raw.biases.astype(mx.float32),
        group_size=form.group,
        bits=form.bits,
        mode=form.mode,
        dtype=mx.float32,
    )


def block_scales(scales: mx.array, rows: Span, columns: Span) -> mx.array:
    """mxfp8's scales `[..., rows, columns / 32]` from those of 128 x 128 blocks.

    `scales` are e8m0 bytes; its first row is that of the block that holds `rows.start`.
    """
    first = rows.start // BLOCK
    of_row = mx.arange(rows.start, rows.stop) // BLOCK - first
    of_group = mx.arange(columns.start // GROUP, columns.stop // GROUP) // (BLOCK // GROUP)
    return mx.take(mx.take(scales, of_row, axis=-2), of_group, axis=-1)


def e8m0(scales: mx.array, name: str) -> mx.array:
    """Scales as e8m0 bytes, 2^(byte - 127); float32 powers of two become the same powers.

    Raises:
        CheckpointError: a float32 scale is no power of two, so mxfp8 cannot hold it.
    """
    if scales.dtype != mx.float32:
        return scales
    bits = scales.view(mx.uint32)
    exponents = bits >> 23  # with the sign, so that a negative scale is not exact either
    normal = (bits & 0x7FFFFF == 0) & (exponents > 0) & (exponents < 255)
    smallest = bits == 0x400000  # 2^-127 is subnormal in float32
    wrong = mx.sum(~(normal | smallest)).item()
    if wrong:
        raise CheckpointError(
            f"{name}: {wrong} of {scales.size} float32 scales are no powers of two, which mxfp8 "
            "cannot hold without loss; use the release with F8_E8M0 scales"
        )
    return exponents.astype(mx.uint8)
