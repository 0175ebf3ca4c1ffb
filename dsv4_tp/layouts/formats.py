"""How a tensor's values are stored in a file.

Owns the dtypes, shapes and block sizes of DeepSeek's formats and of MLX's. Knows no names and no
MLX.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from dsv4_tp.modelspec import ModelSpec, Stored

BLOCK = 128  # an FP8 scale covers BLOCK x BLOCK values
GROUP = 32  # MLX's mxfp8 and mxfp4 have a scale for each 32 values of a row; so has FP4
WORD_BITS = 32  # MLX packs values into words of this many


@dataclass(frozen=True, slots=True)
class Format:
    """A way to store values. The quantised ones keep every bit when they become MLX's."""

    mode: str = ""  # MLX's name for it; empty where nothing is quantised
    bits: int = 0  # per value; 0 where the dtype says it
    group: int = 1  # values of a row that share a scale in memory
    native: bool = False  # as DeepSeek packs it, not as MLX does

    @property
    def quantised(self) -> bool:
        """Whether there is a tensor of scales beside the weights."""
        return bool(self.mode)

    @property
    def affine(self) -> bool:
        """Whether there is a tensor of biases too."""
        return self.mode == "affine"

    @property
    def granule(self) -> int:
        """Columns can be cut at multiples of this: whole groups, which are whole words."""
        return self.group

    def __str__(self) -> str:
        """In words, for messages."""
        if self.native:
            return "FP8 in blocks" if self == FP8_BLOCK else "FP4"
        if not self.quantised:
            return "not quantised"
        return f"{self.mode}, {self.bits} bits, groups of {self.group}"


PLAIN = Format()
FP8_BLOCK = Format("mxfp8", 8, GROUP, native=True)
FP4 = Format("mxfp4", 4, GROUP, native=True)

# What MLX can compute with.
_MX_MODES: Mapping[tuple[int, int], str] = {(8, GROUP): "mxfp8", (4, GROUP): "mxfp4"}
_AFFINE_BITS = (2, 3, 4, 5, 6, 8)
_AFFINE_GROUPS = (32, 64, 128)

FORMATS: Mapping[Stored, Format] = {
    Stored.FP8: FP8_BLOCK,
    Stored.FP4: FP4,
    Stored.BF16: PLAIN,
    Stored.F32: PLAIN,
    Stored.INT: PLAIN,
}

FLOATS = ("BF16", "F32", "F16")
_PLAIN_DTYPES: Mapping[Stored, tuple[str, ...]] = {
    Stored.BF16: FLOATS,
    Stored.F32: ("F32", "BF16", "F16"),
    Stored.INT: ("I64", "I32"),
}

# The dtypes of config.json and of ours, in safetensors' words.
TORCH_DTYPES: Mapping[str, str] = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}


def mlx_format(columns: int, packed: int, groups: int, scales_dtype: str) -> Format | None:
    """MLX's format of rows of `columns` values in `packed` words with `groups` scales.

    None where there is no such format.
    """
    if not packed or not groups or packed * WORD_BITS % columns or columns % groups:
        return None
    bits, group = packed * WORD_BITS // columns, columns // groups
    if scales_dtype == "U8":
        mode = _MX_MODES.get((bits, group))
        return Format(mode, bits, group) if mode else None
    affine = bits in _AFFINE_BITS and group in _AFFINE_GROUPS
    return Format("affine", bits, group) if affine else None


def released_dtype(stored: Stored, spec: ModelSpec) -> str:
    """The dtype of a tensor in the official release of such a model, in safetensors' words."""
    if stored is Stored.BF16:
        return TORCH_DTYPES[spec.torch_dtype]
    return weight_dtypes(stored, FORMATS[stored])[0]


def weight_dtypes(stored: Stored, form: Format) -> tuple[str, ...]:
    """The dtypes that the weights of such a tensor may have in this format."""
    if form.native:
        return ("F8_E4M3",) if form == FP8_BLOCK else ("I8",)
    return ("U32",) if form.quantised else _PLAIN_DTYPES[stored]


def scale_dtypes(form: Format) -> tuple[str, ...]:
    """The dtypes that the scales, and the biases if any, may have."""
    if form.native:
        # F32: base checkpoints
        return ("F8_E8M0", "F32") if form == FP8_BLOCK else ("F8_E8M0",)
    return FLOATS if form.affine else ("U8",)


def weight_shape(shape: tuple[int, ...], form: Format) -> tuple[int, ...]:
    """The shape in the file of weights of logical `shape`, in this format's packing."""
    *rows, columns = shape
    if form.native:
        return (*rows, columns // 2 if form == FP4 else columns)
    return (*rows, columns * form.bits // WORD_BITS) if form.quantised else shape


def scale_shape(shape: tuple[int, ...], form: Format) -> tuple[int, ...]:
    """The shape in the file of the scales of quantised weights of logical `shape`."""
    *outer, rows, columns = shape
    if form == FP8_BLOCK:
        return (*outer, ceil(rows / BLOCK), ceil(columns / BLOCK))
    return (*outer, rows, columns // form.group)
