"""A rank that loads from a prepared set has what it would have from the checkpoint."""

import json
import shutil
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit, DType, ExpertSplit
from dsv4_tp.errors import CheckpointError
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.prepared import check_ranks, rank_folder, read_manifest
from tests.model.golden import distance, run
from tests.parallel.team import on_ranks
from tests.prepared.sets import prepare
from tests.storage_files import BASE, CONVERSIONS, FP4, PLAIN, RAGGED, read_file, write_file

WHOLE = AttentionSplit.WHOLE
SPLITS = [([1], ExpertSplit.WIDTH), ([1, 1], ExpertSplit.WIDTH), ([3, 1, 2], ExpertSplit.WHOLE)]
SAMPLES = [PLAIN, FP4, BASE, RAGGED, *CONVERSIONS]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set for two equal ranks; not to be written to."""
    return prepare(FP4, tmp_path_factory.mktemp("set") / "set", [1, 1])


@pytest.fixture
def copied(pair: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pair, tmp_path / "copy"))


@pytest.mark.parametrize("split", SPLITS, ids=lambda split: f"{split[0]}")
@pytest.mark.parametrize("model_dir", SAMPLES, ids=lambda path: path.name)
def test_every_parameter_has_the_same_bits(model_dir: Path, split, tmp_path: Path) -> None:
    out = prepare(model_dir, tmp_path / "set", *split)
    for part in read_manifest(out).parts:
        straight, prepared = (
            load_rank(place, part, dtype=DType.FLOAT32, mtp=True) for place in (model_dir, out)
        )
        wanted = dict(tree_flatten(straight.model.parameters()))
        for name, array in tree_flatten(prepared.model.parameters()):
            assert array.dtype == wanted[name].dtype
            assert np.array_equal(_bits(array), _bits(wanted.pop(name))), name
        assert not wanted
        assert prepared.bytes_read <= straight.bytes_read


@pytest.mark.parametrize(
    "model_dir",
    [FP4, *(pytest.param(path, marks=pytest.mark.slow) for path in (BASE, RAGGED, *CONVERSIONS))],
    ids=lambda path: path.name,
)
def test_a_sample_gives_its_reference_logits(model_dir: Path, tmp_path: Path) -> None:
    with np.load(model_dir / "expected.npz") as arrays:
        ids, expected = arrays["ids"][:1].astype(np.int32), arrays["logits"][:1]
    for number, split in enumerate(SPLITS):
        out = prepare(model_dir, tmp_path / str(number), *split)
        logits = on_ranks(out, *split, lambda model: run(model, ids, [ids.shape[1]]))
        assert distance(np.concatenate(logits, axis=-1), expected) <= 1e-4


def test_a_rank_reads_its_own_bytes_and_no_other(pair: Path) -> None:
    for part in read_manifest(pair).parts:
        loaded = load_rank(pair, part, dtype=DType.BFLOAT16, mtp=True)
        folder = rank_folder(pair, read_manifest(pair).parts.index(part))
        stored = sum(
            len(stored.data)
            for f in folder.glob("*.safetensors")
            for stored in read_file(f).values()
        )
        assert loaded.bytes_read == stored


def test_a_set_for_other_parts_is_refused(pair: Path) -> None:
    spec = read_spec(pair)
    with pytest.raises(CheckpointError, match=r"prepared for 2 ranks 1:1, experts by width, att"):
        load_rank(pair, None, dtype=DType.FLOAT32)
    three = prepare(FP4, pair.parent / "three", [1, 1, 1])
    with pytest.raises(CheckpointError, match=r"not for a plan of 3 ranks .*`dsv4-tp shard`"):
        check_ranks(pair, spec, read_manifest(three).parts, [1])


def test_a_set_with_whole_attention_is_one_for_that_alone(pair: Path, tmp_path: Path) -> None:
    out = prepare(FP4, tmp_path / "set", [1, 1], attention=WHOLE)
    split, whole = (read_manifest(each).parts for each in (pair, out))
    for part in whole:
        straight, prepared = (
            load_rank(place, part, dtype=DType.FLOAT32, mtp=True) for place in (FP4, out)
        )
        wanted = dict(tree_flatten(straight.model.parameters()))
        got = dict(tree_flatten(prepared.model.parameters()))
        assert got.keys() == wanted.keys()
        assert all(np.array_equal(_bits(got[name]), _bits(wanted[name])) for name in got)
    spec, other = read_spec(pair), "not for a plan of 2 ranks, attention"
    for place, parts, said in ((pair, whole, ("split", "whole")), (out, split, ("whole", "split"))):
        words = rf"experts by width, attention {said[0]}, {other} {said[1]}, that shares"
        with pytest.raises(CheckpointError, match=words):
            check_ranks(place, spec, parts, [0])


def test_ranks_that_are_not_there_are_missed_only_by_themselves(copied: Path) -> None:
    spec, parts = read_spec(copied), read_manifest(copied).parts
    shutil.rmtree(rank_folder(copied, 0))
    check_ranks(copied, spec, parts, [1])
    load_rank(copied, parts[1], dtype=DType.FLOAT32)
    for try_it in (
        lambda: check_ranks(copied, spec, parts, [0]),
        lambda: load_rank(copied, parts[0], dtype=DType.FLOAT32),
    ):
        with pytest.raises(CheckpointError, match=r"rank-0: (\d+) of \1 files are missing"):
            try_it()


@pytest.mark.parametrize("harm", ["gone", "short", "unnoted"])
def test_a_file_that_is_not_whole_is_named(copied: Path, harm: str) -> None:
    folder = rank_folder(copied, 1)
    file = folder / "layers.1.safetensors"
    if harm == "gone":
        file.unlink()
    elif harm == "short":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        journal = folder / "digests.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        torn = [line[:20] if "layers.1" in line else line for line in lines]
        journal.write_text("".join(torn))
    with pytest.raises(CheckpointError, match=r"rank-1: \d of .* unfinished: .*repeat the command"):
        load_rank(copied, read_manifest(copied).parts[1], dtype=DType.FLOAT32)


@pytest.mark.parametrize(
    ("harm", "said"),
    [("renamed", "is not in it"), ("added", "does not belong there"), ("reshaped", "expected F32")],
)
def test_a_tensor_that_is_not_what_it_should_be_is_named(
    copied: Path, harm: str, said: str
) -> None:
    file = rank_folder(copied, 0) / "hc_head.safetensors"
    tensors = read_file(file)
    first = min(tensors)
    if harm == "renamed":
        tensors[first + "x"] = tensors.pop(first)
    elif harm == "added":
        tensors["spare"] = tensors[first]
    else:
        tensors[first].shape = [*tensors[first].shape, 1]
    write_file(file, tensors)
    journal = file.with_name("digests.jsonl")
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    for line in lines:  # as if it had been written so
        line["nbytes"] = (file.parent / line["file"]).stat().st_size
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CheckpointError, match=rf"hc_head.safetensors: \S+ .*{said}.*make the set"):
        load_rank(copied, read_manifest(copied).parts[0], dtype=DType.FLOAT32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value"),
        ("[]", "not a prepared set's manifest"),
        ('{"version": 2}', "version 2, this program reads 1"),
        ('{"version": 1}', "KeyError"),
    ],
)
def test_a_manifest_that_is_none(copied: Path, text: str, said: str) -> None:
    (copied / "prepared.json").write_text(text)
    with pytest.raises(CheckpointError, match=rf"prepared.json: .*{said}.*make the set again"):
        load_rank(copied, None, dtype=DType.FLOAT32)


def test_a_config_of_another_model(copied: Path) -> None:
    shutil.copy(demo.path() / "config.json", copied / "config.json")
    with pytest.raises(CheckpointError, match=r"not of one model: \S+ is in one of them only"):
        load_rank(copied, None, dtype=DType.FLOAT32)


def _bits(array: mx.array) -> np.ndarray:
    return np.array(array.view(mx.uint8) if array.dtype != mx.int32 else array)
