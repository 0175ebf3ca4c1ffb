"""NumPy packers for the number formats of DeepSeek's release.

A format is exact integers in, exact bytes out: only operations that IEEE 754 rounds in one way are
used, so that every machine writes the same file.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

BLOCK = 128  # FP8: rows and columns that share a scale
GROUP = 32  # FP4: columns that share a scale
_E4M3_MAX = 448.0
_E2M1_MAX = 6.0


def e4m3_table() -> Floats:
    """The values of FP8 codes 0 .. 126, ascending; 127 is NaN, bit 7 the sign."""
    codes = np.arange(127)
    exponents, fractions = codes >> 3, codes & 7
    normal = np.ldexp(1.0 + fractions / 8.0, exponents - 7)
    return np.where(exponents == 0, np.ldexp(fractions / 8.0, -6), normal).astype(np.float32)


def e2m1_table() -> Floats:
    """The values of FP4 codes 0 .. 7, ascending; bit 3 is the sign."""
    return np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], dtype=np.float32)


def pack_bf16(values: Floats) -> NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def pack_fp8(values: Floats) -> tuple[Bytes, Bytes]:
    """e4m3 codes [O, I] and the e8m0 scale of every 128 x 128 block [O/128, I/128].

    O and I are multiples of 128.
    """
    rows, columns = values.shape
    assert rows % BLOCK == columns % BLOCK == 0, f"{values.shape} is not made of {BLOCK}-blocks"
    blocks = values.reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    exponents = _scale_exponents(np.abs(blocks).max(axis=(1, 3)), _E4M3_MAX)
    scaled = np.ldexp(blocks, -exponents[:, None, :, None]).reshape(rows, columns)
    return _nearest(scaled, e4m3_table(), sign_bit=0x80), _e8m0(exponents)


def pack_fp4(values: Floats) -> tuple[Bytes, Bytes]:
    """e2m1 codes, two per byte, [O, I/2] and the e8m0 scale of every 32 columns [O, I/32].

    The low half of a byte is the even column. I is a multiple of 32.
    """
    rows, columns = values.shape
    groups = values.reshape(rows, columns // GROUP, GROUP)
    exponents = _scale_exponents(np.abs(groups).max(axis=2), _E2M1_MAX)
    scaled = np.ldexp(groups, -exponents[:, :, None]).reshape(rows, columns)
    codes = _nearest(scaled, e2m1_table(), sign_bit=0x08)
    return codes[:, 0::2] | codes[:, 1::2] << np.uint8(4), _e8m0(exponents)


def _scale_exponents(largest: Floats, table_max: float) -> NDArray[np.int32]:
    """The smallest e with largest <= table_max * 2^e, for every block."""
    fraction, exponent = np.frexp(largest / np.float32(table_max))
    # frexp's fraction is in [1/2, 1): exactly 1/2 is a power of two, one exponent lower.
    return exponent - (fraction == 0.5).astype(np.int32)


def _e8m0(exponents: NDArray[np.int32]) -> Bytes:
    return (exponents + 127).astype(np.uint8)


def _nearest(values: Floats, table: Floats, *, sign_bit: int) -> Bytes:
    """The code of the nearest value of an ascending table, ties to the even code."""
    middles = (table[1:] + table[:-1]) / np.float32(2)
    below = np.searchsorted(middles, np.abs(values), side="left")
    above = np.searchsorted(middles, np.abs(values), side="right")
    codes = np.where(below % 2 == 0, below, above).astype(np.uint8)
    return codes | np.signbit(values).astype(np.uint8) * np.uint8(sign_bit)
