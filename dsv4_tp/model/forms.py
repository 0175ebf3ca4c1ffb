"""How a memory holds its rows: as they were computed, or as the model was trained to see them.

The trained forms are those of the reference's act_quant and fp4_act_quant: numbers in blocks that
share a power of two, the least one that lets the block's largest number fit. A row is a run of
whole 32-bit words, so memories copy and gather words and know nothing of what is in them.
"""

from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from dsv4_tp.core import CacheRows
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import FP4_BLOCK, fp8_block, not_trained

_LARGEST_FP8, _LARGEST_FP4 = 448.0, 6.0
_LEAST_FP8, _LEAST_FP4 = 1e-4, 6 * 2.0**-126  # that a block's largest number is taken for
_WORD = 4  # bytes


class Form(Protocol):
    """How rows [..., width] are held."""

    def encode(self, rows: mx.array) -> mx.array:
        """The rows as they are held, [..., words]."""
        ...

    def decode(self, held: mx.array, dtype: mx.Dtype) -> mx.array:
        """Rows of the activations' `dtype`, from what was made of rows of that dtype."""
        ...


class IndexForm(Form, Protocol):
    """How rows are held that an indexer scores."""

    def products(self, q: mx.array, held: mx.array) -> mx.array:
        """q [B, N, width] with the rows of held [B, T, any], of its dtype: [B, N, T]."""
        ...


@dataclass(frozen=True, slots=True)
class Exact:
    """Rows as they were computed."""

    def encode(self, rows: mx.array) -> mx.array:
        """The rows."""
        return rows

    def decode(self, held: mx.array, dtype: mx.Dtype) -> mx.array:
        """The rows."""
        return held

    def products(self, q: mx.array, held: mx.array) -> mx.array:
        """See IndexForm."""
        return q @ held.swapaxes(-1, -2)


@dataclass(frozen=True, slots=True)
class Fp8AndRope:
    """Rows of attention: FP8 (e4m3) in blocks, then the rotated channels as they were computed.

    A row is its codes, a byte for the scale of each block, padding, and the `rope` channels.
    """

    width: int  # channels, rotated ones too
    rope: int

    def encode(self, rows: mx.array) -> mx.array:
        """[..., words] of rows [..., width]."""
        plain = rows[..., : self._plain].astype(mx.float32)
        blocks = mx.unflatten(plain, -1, (-1, fp8_block(self._plain)))
        scales = _scales(blocks, least=_LEAST_FP8, largest=_LARGEST_FP8)
        codes = mx.to_fp8(blocks * _inverse(scales)).flatten(-2)
        turned = mx.contiguous(rows[..., self._plain :]).view(mx.uint8)
        return _words(codes, scales, turned)

    def decode(self, held: mx.array, dtype: mx.Dtype) -> mx.array:
        """[..., width] of rows [..., words]; every number is one that bfloat16 can hold."""
        data, plain = held.view(mx.uint8), self._plain
        block = fp8_block(plain)
        scales = _power(data[..., plain : plain + plain // block]).astype(dtype)
        values = mx.unflatten(mx.from_fp8(data[..., :plain], dtype), -1, (-1, block)) * scales
        turned = mx.contiguous(data[..., -self.rope * dtype.size :]).view(dtype)
        return mx.concatenate([values.flatten(-2), turned], axis=-1)

    @property
    def _plain(self) -> int:
        return self.width - self.rope


@dataclass(frozen=True, slots=True)
class TurnedFp4:
    """Rows of the indexer: turned by a Hadamard matrix, then FP4 (e2m1) in blocks.

    They are never turned back: what they are compared with goes through the same.
    A row is its codes, two in a byte, the even one low, and a byte for the scale of each block.
    """

    width: int

    def encode(self, rows: mx.array) -> mx.array:
        """[..., words] of rows [..., width]."""
        turned = mx.hadamard_transform(rows.astype(mx.float32)).astype(rows.dtype)
        blocks = mx.unflatten(turned.astype(mx.float32), -1, (-1, FP4_BLOCK))
        scales = _scales(blocks, least=_LEAST_FP4, largest=_LARGEST_FP4)
        codes = mx.unflatten(_fp4(blocks * _inverse(scales)).flatten(-2), -1, (-1, 2))
        return _words(codes[..., 0] | (codes[..., 1] << 4), scales)

    def decode(self, held: mx.array, dtype: mx.Dtype) -> mx.array:
        """The turned rows [..., width] of rows [..., words]."""
        return mx.dequantize(*self._parts(held), None, FP4_BLOCK, 4, "mxfp4", dtype=dtype)

    def products(self, q: mx.array, held: mx.array) -> mx.array:
        """See IndexForm; by MLX's product with FP4, which writes no decoded rows."""
        return mx.quantized_matmul(
            q, *self._parts(held), group_size=FP4_BLOCK, bits=4, mode="mxfp4"
        )

    def _parts(self, held: mx.array) -> tuple[mx.array, mx.array]:
        """The codes and the scales of rows [..., words]."""
        codes = self.width * 4 // 32
        scales = held.view(mx.uint8)[..., codes * _WORD :]
        return held[..., :codes], scales[..., : self.width // FP4_BLOCK]


def as_held(form: Form, rows: mx.array) -> mx.array:
    """Rows as they would be read back."""
    return form.decode(form.encode(rows), rows.dtype)


@dataclass(frozen=True, slots=True)
class Forms:
    """How a layer holds its rows: those that attention reads, and those its indexer scores."""

    attention: Form = Exact()
    index: IndexForm = Exact()

    @classmethod
    def of(cls, spec: ModelSpec, rows: CacheRows) -> "Forms":
        """The forms of a model whose rows are held like that."""
        if rows is CacheRows.EXACT:
            return cls()
        assert not_trained(spec) is None, not_trained(spec)
        return cls(Fp8AndRope(spec.head_dim, spec.qk_rope_head_dim), TurnedFp4(spec.index_head_dim))


def _scales(blocks: mx.array, *, least: float, largest: float) -> mx.array:
    """The biased exponent [..., blocks] of each block's power of two, in uint8."""
    top = mx.maximum(mx.abs(blocks).max(axis=-1), least) * (1 / largest)
    # Adding all of the mantissa's bits carries into the exponent unless they are zero.
    return ((top.view(mx.uint32) + 0x7FFFFF) >> 23).astype(mx.uint8)


def _power(scales: mx.array) -> mx.array:
    """The powers of two [..., blocks, 1] of biased exponents, in float32."""
    return (scales.astype(mx.uint32) << 23).view(mx.float32)[..., None]


def _inverse(scales: mx.array) -> mx.array:
    return _power(254 - scales)


def _fp4(values: mx.array) -> mx.array:
    """Codes 0 to 15 of numbers from -6 to 6, the nearest, of two the even one."""
    size = mx.abs(values)
    # Steps of a half below 2, of one below 4, of two above; a code counts them.
    above = mx.where(size < 4, 2 + mx.round(size), 4 + mx.round(size / 2))
    codes = mx.where(size < 2, mx.round(2 * size), above).astype(mx.uint8)
    return codes | (values < 0).astype(mx.uint8) << 3


def _words(codes: mx.array, scales: mx.array, rest: mx.array | None = None) -> mx.array:
    """Bytes [..., n] side by side, as words; `rest` begins on a word of its own."""
    gap = -(codes.shape[-1] + scales.shape[-1]) % _WORD
    parts = [codes, scales, mx.zeros((*codes.shape[:-1], gap), mx.uint8)]
    return mx.concatenate(parts if rest is None else [*parts, rest], axis=-1).view(mx.uint32)
