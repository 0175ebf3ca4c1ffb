"""What a cut of a source consists of: arrays by name, each with its dtype and shape as stored."""

from dataclasses import dataclass
from math import ceil

from dsv4_tp.core import Span
from dsv4_tp.layouts import BLOCK, FP8_BLOCK, Source
from dsv4_tp.rules import Cut, cut_shape


@dataclass(frozen=True, slots=True)
class Form:
    """An array's dtype, in safetensors' words, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def scales_name(weight: str) -> str:
    """The parameter that holds the scales of the parameter `weight`."""
    return weight.removesuffix(".weight") + ".scales"


def biases_name(weight: str) -> str:
    """The parameter that holds the biases of the parameter `weight`, if it is affine."""
    return weight.removesuffix(".weight") + ".biases"


def forms(source: Source, cut: Cut) -> dict[str, Form]:
    """The arrays of a cut by the names of the parameters they become, the weight first.

    Quantised values are packed in 32-bit words, as MLX holds them, in the order of the file's
    bytes. The scales of FP8 in blocks are all columns of the blocks that hold the cut's rows.
    """
    *rows, columns = cut_shape(cut, source.tensor.shape)
    form = source.format
    if not form.quantised:
        return {cut.name: Form(source.dtype, (*rows, columns))}
    weight = Form("U32", (*rows, columns * form.bits // 32))
    scales = Form("U8", (*rows, columns // form.group))
    if form.affine:
        scales = Form(source.dtype, scales.shape)
        return {
            cut.name: weight,
            scales_name(cut.name): scales,
            biases_name(cut.name): scales,
        }
    if form == FP8_BLOCK:
        scales = _block_scales(source, cut)
    return {cut.name: weight, scales_name(cut.name): scales}


def blocks(rows: Span | None) -> Span | None:
    """The blocks of an FP8 tensor that hold these rows; None for all."""
    return rows and Span(rows.start // BLOCK, -(-rows.stop // BLOCK))


def _block_scales(source: Source, cut: Cut) -> Form:
    *_, rows, columns = source.tensor.shape
    *experts, _, _ = cut_shape(cut, source.tensor.shape)
    held = blocks(cut.rows)
    count = ceil(rows / BLOCK) if held is None else len(held)
    # Base checkpoints keep them in float32.
    wide = bool(source.scales) and source.scales[0].dtype == "F32"
    return Form("F32" if wide else "U8", (*experts, count, ceil(columns / BLOCK)))
