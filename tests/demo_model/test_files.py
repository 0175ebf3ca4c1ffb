"""What is written is what the project reads: names, shapes, values, shards."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlx.utils import tree_flatten

from dsv4_tp.core import DType
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.modelspec import Stored, Tensor, contract, parse_spec, read_spec
from dsv4_tp.parallel import load_rank
from examples.demo_model.files import Stock, stored, write_checkpoint
from examples.demo_model.settings import CONFIG

SPEC = parse_spec(CONFIG, where="the demo model's config.json")


def values(tensor: Tensor, rng: np.random.Generator) -> np.ndarray:
    if tensor.stored is Stored.INT:
        choices = [rng.permutation(SPEC.n_routed_experts) for _ in range(tensor.shape[0])]
        return np.array(choices)[:, : tensor.shape[1]]
    return rng.standard_normal(tensor.shape).astype(np.float32)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """A checkpoint of random numbers, and those numbers by their parameters' paths."""
    where, rng = tmp_path_factory.mktemp("checkpoint"), np.random.default_rng(7)
    given = {tensor.name: values(tensor, rng) for tensor in contract(SPEC, mtp=True)}
    stocks = [
        stock for tensor in contract(SPEC, mtp=True) for stock in stored(tensor, given[tensor.name])
    ]
    write_checkpoint(where, stocks, shards=2, json_files={"config.json": CONFIG})
    return where, given


def test_the_reader_finds_every_tensor_and_no_other(written: tuple[Path, dict]):
    where, _ = written
    assert read_spec(where) == SPEC
    entries = catalog(SPEC, read_headers(where), mtp=True)
    assert entries.notes == ()


@pytest.mark.parametrize(
    ("name", "relative"),  # the formats with scales have tests of their own
    [
        ("embed.weight", 2**-8),
        ("layers.0.hc_attn.fn", 0),
        ("layers.1.ffn.gate.bias", 0),
        ("layers.0.ffn.gate.tid2eid", 0),
    ],
)
def test_values_come_back(written: tuple[Path, dict], name: str, relative: float):
    where, given = written
    parameters = dict(tree_flatten(load_rank(where, None, dtype=DType.FLOAT32).model.parameters()))
    found = np.array(parameters[name])
    assert (np.abs(found - given[name]) <= relative * np.abs(given[name])).all()


def test_shards_are_about_equal_and_the_index_adds_up(written: tuple[Path, dict]):
    where, _ = written
    index = json.loads((where / "model.safetensors.index.json").read_text())
    one, two = (where / f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
    assert set(index["weight_map"].values()) == {one.name, two.name}
    sizes = [file.stat().st_size for file in (one, two)]
    assert max(sizes) < 1.1 * min(sizes)
    assert index["metadata"]["total_size"] < sum(sizes) < 1.02 * index["metadata"]["total_size"]


def test_what_is_written_again_leaves_no_old_shard(tmp_path: Path):
    stocks = [Stock(name, "F32", np.ones(4, dtype=np.float32)) for name in "abcd"]
    (tmp_path / "README.md").write_text("a card")
    write_checkpoint(tmp_path, stocks, shards=4, json_files={})
    assert len(list(tmp_path.glob("*.safetensors"))) == 4
    write_checkpoint(tmp_path, stocks, shards=1, json_files={"config.json": {"name": "é"}})
    assert {file.name for file in tmp_path.iterdir()} == {
        "README.md",
        "config.json",
        "model-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    }
    assert (tmp_path / "config.json").read_text(encoding="utf-8") == '{\n  "name": "é"\n}\n'


def test_a_tensor_that_would_leave_a_shard_empty_is_our_own_mistake(tmp_path: Path):
    sizes = {"a": 1, "b": 1, "c": 98}
    stocks = [Stock(name, "F32", np.ones(size, np.float32)) for name, size in sizes.items()]
    with pytest.raises(AssertionError, match="write fewer shards"):
        write_checkpoint(tmp_path, stocks, shards=3, json_files={})


def test_names_are_the_releases():
    square, experts = np.ones((128, 128), np.float32), np.ones((2, 128, 32), np.float32)
    assert kinds(Tensor("mtp.0.e_proj.weight", (128, 128), Stored.FP8), square) == [
        ("mtp.0.e_proj.weight", "F8_E4M3", (128, 128)),
        ("mtp.0.e_proj.scale", "F8_E8M0", (1, 1)),
    ]
    assert kinds(Tensor("layers.1.ffn.experts.w1.weight", (2, 128, 32), Stored.FP4), experts) == [
        ("layers.1.ffn.experts.0.w1.weight", "I8", (128, 16)),
        ("layers.1.ffn.experts.0.w1.scale", "F8_E8M0", (128, 1)),
        ("layers.1.ffn.experts.1.w1.weight", "I8", (128, 16)),
        ("layers.1.ffn.experts.1.w1.scale", "F8_E8M0", (128, 1)),
    ]
    assert kinds(Tensor("hc_head.fn", (128, 128), Stored.F32), square) == [
        ("hc_head_fn", "F32", (128, 128))
    ]


def kinds(tensor: Tensor, given: np.ndarray) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(stock.name, stock.dtype, stock.data.shape) for stock in stored(tensor, given)]


def test_values_of_another_shape_are_our_own_mistake():
    tensor = Tensor("norm.weight", (4,), Stored.BF16)
    with pytest.raises(AssertionError, match=r"norm\.weight: \(5,\), not \(4,\)"):
        list(stored(tensor, np.ones(5, np.float32)))
