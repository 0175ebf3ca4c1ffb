import subprocess
import sys

import psutil
import pytest

from dsv4_tp.agent import memory
from dsv4_tp.config.precision import mlx_device


@pytest.fixture(autouse=True)
def forgotten():
    memory.gpu_limit_bytes.cache_clear()


def test_without_a_gpu_all_that_is_free_may_be_used(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "mlx_device", lambda: "cpu")
    monkeypatch.setattr(memory, "gpu_limit_bytes", lambda: 1)
    assert memory.usable_bytes() > 1


@pytest.mark.parametrize(
    ("said", "limit"), [("print(1000)", 1000), ("print(1 << 60)", 0), ("raise SystemExit(1)", 0)]
)
def test_a_gpu_bounds_what_may_be_used(said: str, limit: int, monkeypatch: pytest.MonkeyPatch):
    """What MLX would say on a Mac comes from another program here; it is asked for likewise."""
    monkeypatch.setattr(memory, "mlx_device", lambda: "metal")
    monkeypatch.setattr(memory, "_ASK", said)
    usable = memory.usable_bytes()
    assert usable == limit if limit else 1000 < usable < psutil.virtual_memory().total


@pytest.mark.skipif(mlx_device() == "metal", reason="a Mac's MLX says more")
def test_mlx_is_asked_in_words_it_knows():
    asked = [sys.executable, "-c", memory._ASK]
    said = subprocess.run(asked, capture_output=True, timeout=60, check=True)
    assert said.stdout == b"0\n"


@pytest.mark.metal
@pytest.mark.skipif(mlx_device() != "metal", reason="needs a Mac")
def test_a_mac_tells_its_limit():
    total = psutil.virtual_memory().total
    assert total / 2 < memory.gpu_limit_bytes() < total
