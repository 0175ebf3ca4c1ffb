"""How much memory the ranks of this host may use, and how much would stay without them."""

import subprocess
import sys
from functools import cache
from typing import Any

import psutil

from dsv4_tp.agent.reclaim import Kept
from dsv4_tp.config.precision import mlx_device

_ASK_S = 10.0
_OTHERS = 0.5  # of what ranks held, may be what other programs took meanwhile
_KEY = "max_recommended_working_set_size"
_ASK = f"import mlx.core as mx; print(int(mx.device_info().get({_KEY!r}, 0)))"


def kept() -> Kept:
    """Memory that the end of a process may leave behind.

    On a Mac what is wired, as Metal does it for the GPU. On Linux a process leaves shared memory at
    most. Other programs take and give both, so the verdict is lenient.
    """
    memory: Any = psutil.virtual_memory()
    if sys.platform == "darwin":
        return Kept(memory.wired, "wired", noise=_OTHERS)
    return Kept(memory.shared, "shared", noise=_OTHERS)


def usable_bytes() -> int:
    """What is free now; on a Mac no more than what its GPU may hold and stay fast."""
    free = psutil.virtual_memory().available
    limit = gpu_limit_bytes() if mlx_device() == "metal" else 0
    return min(free, limit) if limit else free


@cache
def gpu_limit_bytes() -> int:
    """What the system lets the GPU hold in memory; 0 if it does not say.

    It depends on the size of the memory, on the system's release and on `iogpu.wired_limit_mb`, so
    it is asked for; by a process of its own, since this one does without MLX.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", _ASK], capture_output=True, timeout=_ASK_S, check=False
        )
    except subprocess.TimeoutExpired:
        return 0  # free memory then is the only bound
    return int(done.stdout) if done.returncode == 0 else 0
