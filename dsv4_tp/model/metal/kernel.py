"""A kernel of Metal from the file that is its body."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import mlx.core as mx

Kernel = Callable[..., list[mx.array]]


def kernel(name: str, inputs: list[str], outputs: list[str]) -> Kernel:
    """That of NAME.metal beside this file. It is compiled when it first runs, by `template`."""
    made = mx.fast.metal_kernel(
        name=f"dsv4_{name}", input_names=inputs, output_names=outputs, source=body(name)
    )
    return cast(Kernel, made)


@cache
def scalar(value: float) -> mx.array:
    """A number for kernels, made once."""
    return mx.array(value)


def body(name: str) -> str:
    """Its text."""
    return Path(__file__).with_name(f"{name}.metal").read_text(encoding="utf-8")
