"""The packers against the tables they round to."""

import numpy as np
import pytest

from examples.demo_model.formats import e2m1_table, e4m3_table, pack_bf16, pack_fp4, pack_fp8


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def signed(table: np.ndarray, codes: np.ndarray, sign_bit: int) -> np.ndarray:
    magnitudes = table[codes & (sign_bit - 1)]
    return np.where(codes & sign_bit, -magnitudes, magnitudes)


def unpack_fp8(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    factors = np.exp2(scales.astype(np.float32) - 127)
    return signed(e4m3_table(), codes, 0x80) * factors.repeat(128, 0).repeat(128, 1)


def unpack_fp4(packed: np.ndarray, scales: np.ndarray) -> np.ndarray:
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    return signed(e2m1_table(), codes, 8) * np.exp2(scales.astype(np.float32) - 127).repeat(32, 1)


def test_e4m3_table_has_the_formats_landmarks():
    table = e4m3_table()
    # zero, the smallest subnormal and normal, one, the largest
    assert [table[code] for code in (0, 1, 8, 56, 126)] == [0, 2**-9, 2**-6, 1, 448]
    assert (np.diff(table) > 0).all()


def test_fp8_values_of_the_table_come_back_exactly():
    values = np.zeros((128, 128), dtype=np.float32)
    values.flat[:254] = np.concatenate([e4m3_table(), -e4m3_table()])
    codes, scales = pack_fp8(values)
    assert scales.tolist() == [[127]]
    np.testing.assert_array_equal(unpack_fp8(codes, scales), values)


def test_fp4_values_of_the_table_come_back_exactly():
    values = np.zeros((2, 64), dtype=np.float32)
    values[0, :16] = np.concatenate([e2m1_table(), -e2m1_table()])
    values[1, 32:40] = 4 * e2m1_table()
    packed, scales = pack_fp4(values)
    assert (scales[0, 0], scales[1, 1]) == (127, 129)
    np.testing.assert_array_equal(unpack_fp4(packed, scales), values)


def test_the_even_column_is_the_low_half():
    values = np.zeros((1, 32), dtype=np.float32)
    values[0, :2] = [1.0, -6.0]
    packed, _ = pack_fp4(values)
    assert packed[0, 0] == 0x2 | 0xF << 4


@pytest.mark.parametrize("shape", [(128, 128), (256, 384)])
def test_fp8_is_within_half_a_step(shape: tuple[int, int]):
    values = random(shape) * np.float32(0.03)
    codes, scales = pack_fp8(values)
    assert (codes.shape, scales.shape) == (shape, (shape[0] // 128, shape[1] // 128))
    unpacked = unpack_fp8(codes, scales)
    # three fraction bits; near zero the step of the subnormals, 2^-9 of the scale
    scale = np.exp2(scales.astype(np.float32) - 127).repeat(128, 0).repeat(128, 1)
    assert (np.abs(unpacked - values) <= np.maximum(np.abs(values) / 16, scale / 1024)).all()


def test_fp4_takes_the_nearest_value():
    values = random((8, 96))
    packed, scales = pack_fp4(values)
    unpacked = unpack_fp4(packed, scales)
    grid = np.concatenate([-e2m1_table(), e2m1_table()])
    factors = np.exp2(scales.astype(np.float32) - 127).repeat(32, 1)
    best = np.abs(values[..., None] - grid * factors[..., None]).min(axis=-1)
    np.testing.assert_array_equal(np.abs(unpacked - values), best)


def test_scales_are_the_smallest_that_do_not_overflow():
    for largest, exponent in ((448.0, 0), (448.5, 1), (224.0, -1)):
        values = np.full((128, 128), largest, dtype=np.float32)
        assert pack_fp8(values)[1].item() == 127 + exponent


def test_ties_go_to_the_even_code():
    values = np.zeros((1, 32), dtype=np.float32)
    values[0, :4] = [0.25, 0.75, 2.5, 6.0]  # between codes 0|1, 1|2, 4|5; the last fixes the scale
    packed, _ = pack_fp4(values)
    assert packed[0, :2].tolist() == [0 | 2 << 4, 4 | 7 << 4]


def test_bf16_rounds_to_nearest_even():
    bits = np.array([0x3F800000, 0x3F808000, 0x3F818000, 0x3F808001], dtype=np.uint32)
    packed = pack_bf16(bits.view(np.float32))
    assert packed.tolist() == [0x3F80, 0x3F80, 0x3F82, 0x3F81]
