import json
from pathlib import Path

import mlx.core as mx
import pytest

from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import read_headers
from tests.storage_files import (
    BASE,
    FP4,
    PLAIN,
    Stored,
    copy_model,
    read_file,
    write_file,
    write_raw,
)

INDEX = "model.safetensors.index.json"
TENSOR = Stored("F32", [2, 3], bytes(24))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return copy_model(FP4, tmp_path / "model")


def refusal(model_dir: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_headers(model_dir)
    return str(caught.value)


@pytest.mark.parametrize("model_dir", [PLAIN, FP4, BASE], ids=lambda path: path.name)
def test_entries_point_at_the_tensors_bytes(model_dir: Path) -> None:
    entries = read_headers(model_dir)
    stored = {}
    for file in sorted(model_dir.glob("model*.safetensors")):
        stored |= read_file(file)
    assert entries.keys() == stored.keys()
    for name, entry in entries.items():
        with entry.file.open("rb") as file:
            file.seek(entry.offset)
            assert file.read(entry.nbytes) == stored[name].data
        assert (entry.dtype, list(entry.shape)) == (stored[name].dtype, stored[name].shape)


def test_a_file_by_mlx_is_read(tmp_path: Path) -> None:
    array = mx.arange(6, dtype=mx.bfloat16).reshape(2, 3)
    mx.save_safetensors(str(tmp_path / "model.safetensors"), {"x": array})
    entry = read_headers(tmp_path)["x"]
    assert (entry.dtype, entry.shape, entry.nbytes) == ("BF16", (2, 3), 12)


def test_missing_directory(tmp_path: Path) -> None:
    assert f"{tmp_path / 'none'}: no such directory" in refusal(tmp_path / "none")


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    assert "1 of 1 files of weights are missing: model.safetensors" in refusal(tmp_path)


def test_no_weights(tmp_path: Path) -> None:
    assert "no model*.safetensors file" in refusal(tmp_path)


def test_missing_shard(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    message = refusal(sharded)
    assert "1 of 2 files" in message
    assert "model-00002-of-00002.safetensors" in message


def test_the_index_names_a_key_its_shard_lacks(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    index["weight_map"]["layers.9.stranger"] = "model-00001-of-00002.safetensors"
    (sharded / INDEX).write_text(json.dumps(index))
    assert "layers.9.stranger in model-00001-of-00002.safetensors" in refusal(sharded)


def test_the_index_lacks_a_key_of_a_shard(sharded: Path) -> None:
    index = json.loads((sharded / INDEX).read_text())
    shard = index["weight_map"].pop("embed.weight")
    (sharded / INDEX).write_text(json.dumps(index))
    assert f"1 tensor not where it says: embed.weight in {shard}" in refusal(sharded)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": 3}', "\udcff"])
def test_an_index_that_is_none(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_bytes(text.encode(errors="surrogateescape"))
    assert f"{INDEX}: no JSON with a weight_map" in refusal(sharded)


@pytest.mark.parametrize("lost", [1, 100_000])
def test_truncated_data(tmp_path: Path, lost: int) -> None:
    file = copy_model(PLAIN, tmp_path) / "model.safetensors"
    size = file.stat().st_size
    with file.open("r+b") as stream:
        stream.truncate(size - lost)
    message = refusal(tmp_path)
    assert f"model.safetensors: truncated: {size - lost} bytes" in message
    assert f"ends at {size}" in message


@pytest.mark.parametrize("kept", [0, 5, 8, 1000])
def test_truncated_header(tmp_path: Path, kept: int) -> None:
    file = copy_model(PLAIN, tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:kept])
    assert f"truncated or no safetensors file: {kept} bytes" in refusal(tmp_path)


def fields(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("{", "Expecting"),
        ("[]", "a JSON object was expected, found list"),
        ('{"x": {}, "x": {}}', "x is there twice"),
        (json.dumps({"x": 3}), "x lacks"),
        (json.dumps({"x": fields(data_offsets=[0])}), "x lacks"),
        (json.dumps({"x": fields(shape=["a"])}), "x lacks"),
        (json.dumps({"x": fields(dtype="F4")}), "x has the unknown dtype F4"),
        (json.dumps({"x": fields(shape=[2, 4])}), "x F32 [2, 4] does not fill bytes 0 to 24"),
        (json.dumps({"x": fields(shape=[-2, -3])}), "x F32 [-2, -3] does not fill"),
        (json.dumps({"x": fields(), "y": fields(data_offsets=[20, 44])}), "overlap at byte"),
        (json.dumps({"x": fields(), "y": fields(data_offsets=[40, 64])}), "behind x, belong to no"),
        (
            json.dumps({"x": fields(data_offsets=[40, 64])}),
            "behind the header, belong to no tensor",
        ),
        (json.dumps({"x": fields()}), "behind x, belong to no tensor"),
    ],
)
def test_broken_header(tmp_path: Path, header: str, complaint: str) -> None:
    write_raw(tmp_path / "model.safetensors", header, bytes(64))
    message = refusal(tmp_path)
    assert "model.safetensors: broken header" in message
    assert complaint in message


def test_a_tensor_in_two_files(tmp_path: Path) -> None:
    write_file(tmp_path / "model-1.safetensors", {"x": TENSOR})
    write_file(tmp_path / "model-2.safetensors", {"y": TENSOR, "x": TENSOR})
    message = refusal(tmp_path)
    assert "model-2.safetensors: x is in model-1.safetensors too" in message
