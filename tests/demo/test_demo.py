"""The demo checkpoint: complete, in the release's layout, and the same bytes everywhere."""

import hashlib
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from dsv4_tp import demo
from dsv4_tp.demo.tokenizer import printable_ids
from dsv4_tp.modelspec import read_spec

# Caches are keyed by the directory's name: new bytes need a new number in `build.py`.
DIGEST = "c5b9d59edaf65308ec2ae0d1452d9262f645c909adfd45fb7a62c21937672367"

LAYER_0 = {
    "attn.attn_sink": ("F32", [8]),
    "attn.kv_norm.weight": ("BF16", [128]),
    "attn.q_norm.weight": ("BF16", [128]),
    "attn.wkv.scale": ("F8_E8M0", [1, 2]),
    "attn.wkv.weight": ("F8_E4M3", [128, 256]),
    "attn.wo_a.scale": ("F8_E8M0", [2, 2]),
    "attn.wo_a.weight": ("F8_E4M3", [256, 256]),
    "attn.wo_b.scale": ("F8_E8M0", [2, 2]),
    "attn.wo_b.weight": ("F8_E4M3", [256, 256]),
    "attn.wq_a.scale": ("F8_E8M0", [1, 2]),
    "attn.wq_a.weight": ("F8_E4M3", [128, 256]),
    "attn.wq_b.scale": ("F8_E8M0", [8, 1]),
    "attn.wq_b.weight": ("F8_E4M3", [1024, 128]),
    "attn_norm.weight": ("BF16", [256]),
    "ffn.experts.15.w1.scale": ("F8_E8M0", [128, 8]),
    "ffn.experts.15.w1.weight": ("I8", [128, 128]),
    "ffn.experts.15.w2.scale": ("F8_E8M0", [256, 4]),
    "ffn.experts.15.w2.weight": ("I8", [256, 64]),
    "ffn.experts.15.w3.scale": ("F8_E8M0", [128, 8]),
    "ffn.experts.15.w3.weight": ("I8", [128, 128]),
    "ffn.gate.tid2eid": ("I64", [384, 2]),
    "ffn.gate.weight": ("BF16", [16, 256]),
    "ffn.shared_experts.w1.scale": ("F8_E8M0", [1, 2]),
    "ffn.shared_experts.w1.weight": ("F8_E4M3", [128, 256]),
    "ffn.shared_experts.w2.scale": ("F8_E8M0", [2, 1]),
    "ffn.shared_experts.w2.weight": ("F8_E4M3", [256, 128]),
    "ffn.shared_experts.w3.scale": ("F8_E8M0", [1, 2]),
    "ffn.shared_experts.w3.weight": ("F8_E4M3", [128, 256]),
    "ffn_norm.weight": ("BF16", [256]),
    "hc_attn_base": ("F32", [24]),
    "hc_attn_fn": ("F32", [24, 1024]),
    "hc_attn_scale": ("F32", [3]),
    "hc_ffn_base": ("F32", [24]),
    "hc_ffn_fn": ("F32", [24, 1024]),
    "hc_ffn_scale": ("F32", [3]),
}
ELSEWHERE = {
    "embed.weight": ("BF16", [384, 256]),
    "hc_head_base": ("F32", [4]),
    "hc_head_fn": ("F32", [4, 1024]),
    "hc_head_scale": ("F32", [1]),
    "head.weight": ("BF16", [384, 256]),
    "layers.1.attn.compressor.ape": ("F32", [4, 256]),
    "layers.1.attn.compressor.wgate.weight": ("BF16", [256, 256]),
    "layers.1.attn.indexer.compressor.ape": ("F32", [4, 256]),
    "layers.1.attn.indexer.weights_proj.weight": ("BF16", [32, 256]),
    "layers.1.attn.indexer.wq_b.weight": ("F8_E4M3", [4096, 128]),
    "layers.1.ffn.gate.bias": ("F32", [16]),
    "layers.2.attn.compressor.ape": ("F32", [128, 128]),
    "layers.2.attn.compressor.norm.weight": ("BF16", [128]),
    "mtp.0.e_proj.weight": ("F8_E4M3", [256, 256]),
    "mtp.0.enorm.weight": ("BF16", [256]),
    "mtp.0.ffn.gate.bias": ("F32", [16]),
    "mtp.0.hc_head_fn": ("F32", [4, 1024]),
    "norm.weight": ("BF16", [256]),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return demo.ensure(tmp_path_factory.mktemp("cache"))


def headers(checkpoint: Path) -> dict[str, tuple[str, list[int], int, int]]:
    """Every tensor's dtype, shape and byte range, checked to fill its file without a gap."""
    found = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        del header["__metadata__"]
        end = 0
        for name, row in header.items():
            assert row["data_offsets"][0] == end, name
            end = row["data_offsets"][1]
            found[name] = (row["dtype"], row["shape"], *row["data_offsets"])
        assert 8 + length + end == len(data)
    return found


def test_names_dtypes_and_shapes_are_the_releases(checkpoint: Path):
    kinds = {name: row[:2] for name, row in headers(checkpoint).items()}
    expected = {f"layers.0.{name}": kind for name, kind in LAYER_0.items()} | ELSEWHERE
    assert {name: kinds.get(name) for name in expected} == expected


def test_layer_0_has_nothing_else(checkpoint: Path):
    names = {name.removeprefix("layers.0.") for name in headers(checkpoint) if "layers.0." in name}
    last_expert = {name for name in names if ".experts." not in name or ".experts.15." in name}
    assert last_expert == set(LAYER_0)


def test_byte_ranges_fit_dtypes_and_shapes(checkpoint: Path):
    widths = {"F8_E4M3": 1, "F8_E8M0": 1, "I8": 1, "BF16": 2, "F32": 4, "I64": 8}
    for name, (dtype, shape, start, end) in headers(checkpoint).items():
        count = 1
        for size in shape:
            count *= size
        assert end - start == count * widths[dtype], name


def test_index_names_every_tensor_and_its_file(checkpoint: Path):
    index = json.loads((checkpoint / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == headers(checkpoint).keys()
    assert len(set(index["weight_map"].values())) == 2
    ranges = headers(checkpoint).values()
    assert index["metadata"]["total_size"] == sum(end - start for *_, start, end in ranges)


def test_every_structural_feature_is_there(checkpoint: Path):
    spec = read_spec(checkpoint)
    assert set(spec.compress_ratios) == {0, 4, 128}
    assert spec.num_hash_layers == spec.num_nextn_predict_layers == 1
    assert (spec.hc_mult, spec.o_groups, spec.heads_per_group) == (4, 4, 2)
    assert (spec.n_routed_experts, spec.num_experts_per_tok, spec.n_shared_experts) == (16, 2, 1)
    assert (spec.expert_format, spec.linear_format) == ("fp4", "fp8")
    assert spec.yarn is not None


def test_bytes_are_the_same_everywhere(checkpoint: Path):
    digest = hashlib.sha256()
    for file in sorted(checkpoint.iterdir()):
        digest.update(file.name.encode() + file.read_bytes())
    assert digest.hexdigest() == DIGEST


def test_it_is_small_and_says_what_it_is(checkpoint: Path):
    assert sum(file.stat().st_size for file in checkpoint.iterdir()) < 10_000_000
    assert "random" in (checkpoint / "README.md").read_text()


def test_a_second_call_writes_nothing(checkpoint: Path):
    before = {file: file.stat().st_mtime_ns for file in checkpoint.iterdir()}
    assert demo.ensure(checkpoint.parent) == checkpoint
    assert {file: file.stat().st_mtime_ns for file in checkpoint.iterdir()} == before


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dsv4_tp.demo.build.tokenizer_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.ensure(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_slower_writer_keeps_the_first_ones_directory(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def overtaken(draft: Path) -> None:
        (draft / "mine").touch()
        other = tmp_path / checkpoint.name
        other.mkdir()
        (other / "theirs").touch()

    monkeypatch.setattr("dsv4_tp.demo.build._write_checkpoint", overtaken)
    assert [file.name for file in demo.ensure(tmp_path).iterdir()] == ["theirs"]
    assert [path.name for path in tmp_path.iterdir()] == [checkpoint.name]


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Tokenizer:
    return Tokenizer.from_file(str(checkpoint / "tokenizer.json"))


def test_every_byte_is_one_token(tokenizer: Tokenizer):
    text = "Grüße, 你好 🙂\n\t"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert len(ids) == len(text.encode())
    assert all(3 <= number < 259 for number in ids)
    assert tokenizer.decode(ids) == text


def test_special_tokens_are_the_releases(tokenizer: Tokenizer):
    text = "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜></think>"
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert (ids[0], len(ids)) == (0, 6)
    assert tokenizer.token_to_id("<｜end▁of▁sentence｜>") == 1
    assert tokenizer.get_vocab_size() == 384


def test_printable_ids_are_printable_ascii(tokenizer: Tokenizer):
    assert sorted(tokenizer.decode([number]) for number in printable_ids()) == [
        chr(code) for code in range(32, 127)
    ]
