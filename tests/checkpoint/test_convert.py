import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.checkpoint.convert import block_scales, e8m0
from dsv4_tp.core import Span
from dsv4_tp.errors import CheckpointError
from tests.checkpoint import decode


def test_every_power_of_two_keeps_its_exponent() -> None:
    codes = np.arange(255, dtype=np.uint8)
    assert np.array_equal(e8m0(mx.array(decode.e8m0(codes)), "x"), codes)
    assert np.array_equal(e8m0(mx.array(codes), "x"), codes)


@pytest.mark.parametrize(
    "scale", [0.0, 3.0, -2.0, 1.0000001, float("inf"), float("nan"), 2.0**-130]
)
def test_any_other_scale_is_refused(scale: float) -> None:
    scales = mx.array([[1.0, scale], [2.0, 0.5]])
    with pytest.raises(CheckpointError, match=r"layers\.0\.x: 1 of 4 float32 scales"):
        e8m0(scales, "layers.0.x")


def codes(seed: int, shape: tuple[int, ...], *, below: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, below, shape, np.uint8)


@pytest.mark.parametrize("shape", [(1, 32), (128, 128), (130, 160), (384, 512)])
@pytest.mark.parametrize("cut", [False, True])
def test_fp8_blocks_as_mxfp8(shape: tuple[int, int], cut: bool) -> None:
    weight = codes(1, shape)
    weight[weight & 127 == 127] = 0  # NaN
    scale = codes(2, (-(-shape[0] // 128), -(-shape[1] // 128)), below=20) + 110
    rows = Span(shape[0] // 3, shape[0]) if cut else Span(0, shape[0])
    columns = Span(shape[1] // 64 * 32, shape[1]) if cut else Span(0, shape[1])
    scales = block_scales(mx.array(scale)[rows.start // 128 :], rows, columns)
    piece = weight[rows.start : rows.stop, columns.start : columns.stop]
    packed = mx.array(np.ascontiguousarray(piece)).view(mx.uint32)
    value = mx.dequantize(packed, scales, group_size=32, bits=8, mode="mxfp8", dtype=mx.float32)
    expected = decode.fp8(weight, decode.e8m0(scale))
    assert np.array_equal(value, expected[rows.start : rows.stop, columns.start : columns.stop])


def test_packed_fp4_is_mxfp4() -> None:
    weight, scale = codes(3, (64, 64)), codes(4, (64, 4), below=20) + 110
    packed = mx.array(weight).view(mx.uint32)
    value = mx.dequantize(
        packed, mx.array(scale), group_size=32, bits=4, mode="mxfp4", dtype=mx.float32
    )
    assert np.array_equal(value, decode.fp4(weight, decode.e8m0(scale)))
