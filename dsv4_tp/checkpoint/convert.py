"""DeepSeek's formats as MLX's, bit for bit: nothing is dequantised and quantised again.

Pure functions on arrays; `raw` weights are the file's bytes, seen as uint32 where quantised.
"""

import mlx.core as mx

from dsv4_tp.core import DType, Span
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import BLOCK, GROUP, Format, Source
from dsv4_tp.rules import Cut

_DTYPES = {"I32": mx.int32, "F32": mx.float32, "BF16": mx.bfloat16, "F16": mx.float16}


def finish(
    source: Source, cut: Cut, raw: mx.array, scales: mx.array | None, wanted: DType | None
) -> dict[str, mx.array]:
    """The parameters, by name, of one cut: `raw` is its piece of the weights.

    `scales` of an FP4 source are those of the piece; of an FP8 source all columns of the blocks
    that hold the piece's rows. Unquantised weights become `wanted` where they may.

    Raises:
        CheckpointError: a float32 scale has no exact counterpart.
    """
    if scales is None:
        return {cut.name: raw.astype(_DTYPES[source.held_dtype(wanted)])}
    scales = e8m0(scales, source.tensor.name)
    if source.format is Format.FP8_BLOCK:
        *_, rows, columns = source.tensor.shape
        scales = block_scales(scales, cut.rows or Span(0, rows), cut.columns or Span(0, columns))
    return {cut.name: raw, scales_name(cut.name): scales}


def scales_name(weight: str) -> str:
    """The parameter that holds the scales of the parameter `weight`."""
    return weight.removesuffix(".weight") + ".scales"


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
