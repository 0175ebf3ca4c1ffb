"""Synthetic checkpoints are as the real ones, in names, shapes and bytes if not in values."""

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from benchmarks import synthetic
from dsv4_tp import demo
from dsv4_tp.core import DType
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank

CONFIG = demo.path() / "config.json"


def run(*options: object) -> None:
    command = [sys.executable, "-m", "benchmarks.synthetic", "--model", CONFIG, *options]
    subprocess.run([str(word) for word in command], check=True, timeout=100)


@pytest.mark.parametrize(
    ("model", "count", "size"),
    [("flash", 69_187, 159_609_485_896), ("pro", 145_116, 864_704_792_696)],
)
def test_the_real_ones_have_the_published_numbers(model: str, count: int, size: int):
    spec = read_spec(synthetic.CONFIGS / f"deepseek-v4-{model}.json")
    stored = tuple(synthetic.stored_tensors(spec))
    assert (len(stored), sum(tensor.nbytes for tensor in stored)) == (count, size)


def test_a_sparse_checkpoint_is_sound_and_takes_no_disk(tmp_path: Path):
    run("--out", tmp_path / "sparse")
    entries = read_headers(tmp_path / "sparse")
    found = catalog(read_spec(tmp_path / "sparse"), entries, mtp=True)
    assert (found.dropped, found.notes) == ((), ())
    files = {entry.file.stat() for entry in entries.values()}
    assert sum(file.st_blocks for file in files) * 512 < sum(file.st_size for file in files) / 2


def test_shards_hold_no_more_than_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(synthetic, "SHARD_BYTES", 1_000_000)
    synthetic.write(tmp_path / "out", json.loads(CONFIG.read_text()), seed=None)
    entries = read_headers(tmp_path / "out").values()
    sizes = dict.fromkeys(sorted({entry.file for entry in entries}), 0)
    for entry in entries:
        sizes[entry.file] += entry.nbytes
    assert len(sizes) > 3
    assert max(sizes.values()) <= 1_000_000
    assert [file.name[-14:-12] for file in sizes] == [f"{len(sizes):02}"] * len(sizes)


def test_a_smaller_model_loads_with_finite_numbers(tmp_path: Path):
    out = tmp_path / "part"
    run("--out", out, "--layers", "0,128,4", "--experts", "3", "--vocab", "64")
    assert read_spec(out).compress_ratios == (0, 128, 4)
    model = load_rank(out, None, dtype=DType.BFLOAT16).model
    for name, array in tree_flatten(model.parameters()):
        if array.dtype not in (mx.uint8, mx.uint32, mx.int32):
            assert mx.all(mx.isfinite(array)).item(), name
    logits = model(mx.array([[1, 2, 3]]), model.make_cache())
    assert mx.all(mx.isfinite(logits)).item()


def test_a_seed_is_a_checkpoint(tmp_path: Path):
    config = synthetic.smaller(json.loads(CONFIG.read_text()), (0,), 3, 64)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        synthetic.write(tmp_path / name, config, seed=seed)
    a, b, c = (
        np.fromfile(next((tmp_path / name).glob("*.safetensors")), np.uint8) for name in "abc"
    )
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)
