"""How a tensor's values are stored in a file.

Owns the dtypes, shapes and block sizes of DeepSeek's formats. Knows no names and no MLX.
"""

from collections.abc import Mapping
from enum import Enum
from math import ceil

from dsv4_tp.modelspec import ModelSpec, Stored

BLOCK = 128  # an FP8 scale covers BLOCK x BLOCK values
GROUP = 32  # MLX's mxfp8 and mxfp4 have a scale for each 32 values of a row; so has FP4


class Format(Enum):
    """A way to store values. The quantised ones keep every bit when they become MLX's.

    Attributes:
        mode: MLX's name for it; empty where nothing is quantised.
        bits: per value; 0 where the dtype says it.
        granule: columns can be cut at multiples of this.
    """

    FP8_BLOCK = ("mxfp8", 8, GROUP)
    FP4 = ("mxfp4", 4, GROUP)
    PLAIN = ("", 0, 1)

    def __init__(self, mode: str, bits: int, granule: int) -> None:
        self.mode, self.bits, self.granule = mode, bits, granule

    @property
    def quantised(self) -> bool:
        """Whether there is a tensor of scales beside the weights."""
        return bool(self.mode)


FORMATS: Mapping[Stored, Format] = {
    Stored.FP8: Format.FP8_BLOCK,
    Stored.FP4: Format.FP4,
    Stored.BF16: Format.PLAIN,
    Stored.F32: Format.PLAIN,
    Stored.INT: Format.PLAIN,
}

_FLOATS = ("BF16", "F32", "F16")
WEIGHT_DTYPES: Mapping[Stored, tuple[str, ...]] = {
    Stored.FP8: ("F8_E4M3",),
    Stored.FP4: ("I8",),
    Stored.BF16: _FLOATS,
    Stored.F32: ("F32", "BF16", "F16"),
    Stored.INT: ("I64", "I32"),
}
SCALE_DTYPES: Mapping[Format, tuple[str, ...]] = {
    Format.FP8_BLOCK: ("F8_E8M0", "F32"),  # F32: base checkpoints
    Format.FP4: ("F8_E8M0",),
}

# The dtypes of config.json and of ours, in safetensors' words.
TORCH_DTYPES: Mapping[str, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def released_dtype(stored: Stored, spec: ModelSpec) -> str:
    """The dtype of a tensor in the official release of such a model, in safetensors' words."""
    return TORCH_DTYPES[spec.torch_dtype] if stored is Stored.BF16 else WEIGHT_DTYPES[stored][0]


def weight_shape(shape: tuple[int, ...], form: Format) -> tuple[int, ...]:
    """The shape in the file of a matrix of logical `shape`: FP4 has two values in a byte."""
    return (*shape[:-1], shape[-1] // 2) if form is Format.FP4 else shape


def scale_shape(shape: tuple[int, ...], form: Format) -> tuple[int, ...]:
    """The shape in the file of the scales of a quantised matrix of logical `shape`."""
    rows, columns = shape
    if form is Format.FP4:
        return rows, columns // GROUP
    return ceil(rows / BLOCK), ceil(columns / BLOCK)
