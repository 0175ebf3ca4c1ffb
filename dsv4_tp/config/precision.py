"""Which dtype `auto` means, and what it depends on."""

import sys
from importlib.metadata import distributions

from dsv4_tp.core import DType


def mlx_device() -> str:
    """What MLX computes on here, told without importing it: metal, cuda or cpu."""
    if sys.platform == "darwin":
        return "metal"
    installed = (distribution.name for distribution in distributions())
    return "cuda" if any(name.startswith("mlx-cuda") for name in installed) else "cpu"


def settle_dtype(wanted: DType | None, *, device: str, torch_dtype: str) -> DType:
    """`wanted`, or for None the one that is right on `device` for this checkpoint.

    On the CPU quantised products in bfloat16 are wrong by several percent, so it is float32
    there; elsewhere the checkpoint's own, with float16, which we do not run, as bfloat16.
    """
    if wanted is not None:
        return wanted
    exact = device == "cpu" or torch_dtype == DType.FLOAT32
    return DType.FLOAT32 if exact else DType.BFLOAT16
