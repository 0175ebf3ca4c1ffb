"""What `auto` means."""

import pytest

from dsv4_tp.config.precision import settle_dtype
from dsv4_tp.core import DType


@pytest.mark.parametrize(
    ("wanted", "device", "stored", "settled"),
    [
        (None, "cpu", "bfloat16", DType.FLOAT32),
        (None, "metal", "bfloat16", DType.BFLOAT16),
        (None, "cuda", "float32", DType.FLOAT32),
        (None, "metal", "float16", DType.BFLOAT16),
        (DType.BFLOAT16, "cpu", "float32", DType.BFLOAT16),
        (DType.FLOAT32, "metal", "bfloat16", DType.FLOAT32),
    ],
)
def test_auto_is_exact_on_cpu_and_the_checkpoint_s_elsewhere(
    wanted: DType | None, device: str, stored: str, settled: DType
):
    assert settle_dtype(wanted, device=device, torch_dtype=stored) is settled
