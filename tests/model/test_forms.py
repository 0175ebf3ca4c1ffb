"""Rows as they are held, against the same rounding written down in numpy.

Numbers are rounded to the nearest code, of two the even one, over the least power of two with which
a block's largest number fits.
"""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import CacheRows
from dsv4_tp.model.forms import Exact, Forms, Fp8AndRope, IndexForm, TurnedFp4, as_held
from dsv4_tp.rules import index_row_bytes, not_trained, row_bytes
from tests.specs import FLASH, PRO, TINY

# By code, for both without the sign: what an exponent and a mantissa stand for.
FP8 = np.array([(m / 8 if not e else 1 + m / 8) * 2.0 ** (max(e, 1) - 7)
                for e in range(16) for m in range(8)][:127])  # fmt: skip
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
HEAD, ROPE, INDEX = 512, 64, 128


def nearest(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    size = np.minimum(np.abs(values), table[-1])
    above = np.clip(np.searchsorted(table, size), 1, len(table) - 1)
    middle = (table[above - 1] + table[above]) / 2
    odd_below = (above - 1) % 2 == 1
    up = (size > middle) | ((size == middle) & odd_below)
    return np.sign(values) * table[np.where(up, above, above - 1)]


def rounded(rows: np.ndarray, block: int, table: np.ndarray, least: float) -> np.ndarray:
    blocks = rows.astype(np.float64).reshape(*rows.shape[:-1], -1, block)
    top = np.maximum(np.abs(blocks).max(-1, keepdims=True), least).astype(np.float32)
    part, exponent = np.frexp(top * np.float32(1 / table[-1]))
    scale = np.ldexp(1.0, exponent - (part == 0.5))
    return (nearest(blocks / scale, table) * scale).reshape(rows.shape)


def fp8(rows: np.ndarray, rope: int = ROPE, block: int = 64) -> np.ndarray:
    plain = rows[..., :-rope]
    return np.concatenate([rounded(plain, block, FP8, 1e-4), rows[..., -rope:]], -1)


def fp4(rows: np.ndarray) -> np.ndarray:
    """Of rows that are turned already."""
    return rounded(rows, 32, FP4, 6 * 2.0**-126)


def hadamard(width: int) -> np.ndarray:
    """By the parity of the bits that a row's and a column's number share."""
    numbers = np.arange(width)
    parity = [[(i & j).bit_count() % 2 for j in numbers] for i in numbers]
    return (1 - 2 * np.array(parity)) / np.sqrt(width)


def held(form, rows: np.ndarray, dtype: mx.Dtype = mx.float32) -> np.ndarray:
    return np.array(as_held(form, mx.array(rows).astype(dtype)).astype(mx.float32))


def sorts(seed: int, width: int, count: int = 400) -> np.ndarray:
    """Rows of very different sizes, whole and by their numbers; some of them zero."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, width)) * np.exp(rng.uniform(-9, 9, (count, 1)))
    rows *= np.exp(rng.uniform(-3, 1, (count, width))) * (rng.random((count, width)) > 0.05)
    rows[::50] = 0
    return rows.astype(np.float32)


def edges(table: np.ndarray) -> np.ndarray:
    """Every code, every middle between two, and what is next to it on either side."""
    middles = ((table[1:] + table[:-1]) / 2).astype(np.float32)
    sides = [np.nextafter(middles, np.float32(to)) for to in (0, 1e9)]
    positive = np.concatenate([table.astype(np.float32), middles, *sides])
    return np.concatenate([positive, -positive])


def in_blocks(values: np.ndarray, block: int, top: float, width: int) -> np.ndarray:
    """The values in rows whose blocks all begin with `top`, so that they are not scaled."""
    values = np.resize(values, -(-len(values) // (block - 1)) * (block - 1))
    blocks = np.insert(values.reshape(-1, block - 1), 0, top, axis=1)
    return np.resize(blocks, (-(-blocks.size // width), width)).astype(np.float32)


@pytest.mark.parametrize("power", [-22, -1, 0, 1, 30])
def test_every_code_of_fp8_and_every_tie(power: int) -> None:
    plain = in_blocks(edges(FP8), 64, 448, HEAD - ROPE) * np.float32(2.0**power)
    rows = np.concatenate([plain, np.ones((len(plain), ROPE), np.float32)], -1)
    assert np.array_equal(held(Fp8AndRope(HEAD, ROPE), rows), fp8(rows))


@pytest.mark.parametrize("power", [-100, -1, 0, 1, 30])
def test_every_code_of_fp4_and_every_tie(power: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "hadamard_transform", lambda rows: rows)
    rows = in_blocks(edges(FP4), 32, 6, INDEX) * np.float32(2.0**power)
    assert np.array_equal(held(TurnedFp4(INDEX), rows), fp4(rows))


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize(("head", "rope"), [(HEAD, ROPE), (128, 64), (32, 16), (96, 32), (40, 8)])
def test_attention_rows_of_any_size(head: int, rope: int, dtype: mx.Dtype) -> None:
    rows = np.array(mx.array(sorts(head, head)).astype(dtype).astype(mx.float32))
    expected = fp8(rows, rope, min(64, head - rope))
    assert np.array_equal(held(Fp8AndRope(head, rope), rows, dtype), expected)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("width", [32, 64, INDEX])
def test_index_rows_of_any_size(width: int, dtype: mx.Dtype) -> None:
    rows = mx.array(sorts(width, width)).astype(dtype)
    turned = np.array(mx.hadamard_transform(rows.astype(mx.float32)))
    exactly = np.array(rows.astype(mx.float32)).astype(np.float64) @ hadamard(width)
    assert np.abs(turned - exactly).max() <= 1e-6 * np.abs(exactly).max()
    expected = fp4(np.array(mx.array(turned).astype(dtype).astype(mx.float32)))
    assert np.array_equal(np.array(as_held(TurnedFp4(width), rows).astype(mx.float32)), expected)


def test_a_block_too_small_to_round_becomes_zero() -> None:
    rows = np.full((1, HEAD), 1e-10, np.float32)
    assert not held(Fp8AndRope(HEAD, ROPE), rows)[:, :-ROPE].any()


@pytest.mark.parametrize("form", [Fp8AndRope(HEAD, ROPE), TurnedFp4(INDEX)])
def test_rows_never_written_read_as_zero(form) -> None:
    words = form.encode(mx.ones((1, 1, form.width), mx.bfloat16))
    assert not form.decode(mx.zeros_like(words), mx.bfloat16).any()


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
@pytest.mark.parametrize("spec", [FLASH, PRO, TINY])
def test_rows_take_the_bytes_that_are_planned(spec, dtype: mx.Dtype) -> None:
    for rows in CacheRows:
        forms = Forms.of(spec, rows)
        row = forms.attention.encode(mx.zeros((1, spec.head_dim), dtype))
        assert row.nbytes == row_bytes(spec, rows, dtype.size)
        row = forms.index.encode(mx.zeros((1, spec.index_head_dim), dtype))
        assert row.nbytes == index_row_bytes(spec, rows, dtype.size)


def test_the_real_models_rows() -> None:
    assert row_bytes(FLASH, CacheRows.TRAINED, 2) == 584
    assert index_row_bytes(FLASH, CacheRows.TRAINED, 2) == 68


def test_exact_rows_are_the_rows() -> None:
    rows = mx.ones((2, 3))
    assert as_held(Exact(), rows) is rows


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 160, "qk_rope_head_dim": 64}, "96 channels"),
        ({"head_dim": 64, "qk_rope_head_dim": 64}, "0 channels"),
        ({"index_head_dim": 16}, "index_head_dim 16"),
        ({"index_head_dim": 96}, "index_head_dim 96"),
    ],
)
def test_widths_without_a_trained_form(changes: dict, words: str) -> None:
    assert words in not_trained(replace(FLASH, **changes))
    assert not_trained(FLASH) is None


# Planted mistakes: each must be seen.


def test_other_blocks_are_seen() -> None:
    rows = sorts(0, HEAD)
    assert not np.array_equal(held(Fp8AndRope(HEAD, ROPE), rows), fp8(rows, block=32))
    assert not np.array_equal(held(Fp8AndRope(HEAD, ROPE), rows), fp8(rows, block=448))


def test_turning_one_side_only_is_seen() -> None:
    """Products of rows that are turned are those of the rows; of one turned with one not, not."""
    queries, keys = sorts(1, INDEX, 60), sorts(2, INDEX, 60)
    queries, keys = (
        a / (np.linalg.norm(a, axis=-1, keepdims=True) + 1e-9) for a in (queries, keys)
    )
    exact = queries @ keys.T
    form = TurnedFp4(INDEX)
    assert np.abs(held(form, queries) @ held(form, keys).T - exact).max() < 0.2
    assert np.abs(queries @ held(form, keys).T - exact).max() > 0.5


@pytest.mark.parametrize("form", [Exact(), TurnedFp4(INDEX)], ids=lambda it: type(it).__name__)
def test_products_are_those_with_the_rows_read_back(form: IndexForm) -> None:
    rows, q = (some((2, count, INDEX)) for count in (37, 5))
    encoded = form.encode(rows.astype(mx.bfloat16))
    found = form.products(q, encoded)
    decoded = form.decode(encoded, mx.bfloat16).astype(mx.float32)
    assert mx.allclose(found, q @ decoded.swapaxes(1, 2), rtol=1e-5, atol=1e-4).item()
    # Of another row they are others.
    assert not mx.allclose(found, q @ mx.roll(decoded, 1, 1).swapaxes(1, 2), atol=1e-1).item()


def some(shape: tuple[int, ...]) -> mx.array:
    return mx.random.normal(shape, key=mx.random.key(shape[1]))
