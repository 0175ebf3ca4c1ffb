"""The shipped checkpoint: complete, in the release's layout, sound in every number, and small."""

import json
from math import prod
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp import demo
from dsv4_tp.core import ExpertSplit
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.modelspec import read_spec
from dsv4_tp.plan import make_plan
from dsv4_tp.text import Text, read_defaults
from examples.demo_model import encoding_dsv4
from examples.demo_model.settings import CONFIG, GENERATION
from examples.demo_model.tokenizer import tokenizer_config, tokenizer_json

MOST_BYTES = 8_000_000
WIDTHS = {"F8_E4M3": 1, "F8_E8M0": 1, "I8": 1, "BF16": 2, "F32": 4, "I64": 8}

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
    "ffn.gate.tid2eid": ("I64", [640, 2]),
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
    "embed.weight": ("BF16", [640, 256]),
    "hc_head_base": ("F32", [4]),
    "hc_head_fn": ("F32", [4, 1024]),
    "hc_head_scale": ("F32", [1]),
    "head.weight": ("BF16", [640, 256]),
    "layers.1.attn.compressor.ape": ("F32", [4, 256]),
    "layers.1.attn.compressor.wgate.weight": ("BF16", [256, 256]),
    "layers.1.attn.indexer.compressor.ape": ("F32", [4, 256]),
    "layers.1.attn.indexer.weights_proj.weight": ("BF16", [16, 256]),
    "layers.1.attn.indexer.wq_b.weight": ("F8_E4M3", [2048, 128]),
    "layers.1.ffn.gate.bias": ("F32", [16]),
    "layers.2.attn.compressor.ape": ("F32", [128, 128]),
    "layers.2.attn.compressor.norm.weight": ("BF16", [128]),
    "mtp.0.e_proj.weight": ("F8_E4M3", [256, 256]),
    "mtp.0.enorm.weight": ("BF16", [256]),
    "mtp.0.ffn.gate.bias": ("F32", [16]),
    "mtp.0.hc_head_fn": ("F32", [4, 1024]),
    "norm.weight": ("BF16", [256]),
}
CHECKPOINT = demo.path()


def headers() -> dict[str, tuple[str, list[int], int, int]]:
    """Every tensor's dtype, shape and byte range, checked to fill its file without a gap."""
    found = {}
    for file in sorted(CHECKPOINT.glob("*.safetensors")):
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


def read_json(name: str) -> dict[str, object]:
    return json.loads((CHECKPOINT / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray]:
    """Every tensor as its file has it: codes, halves of floats, floats, ids."""
    kinds = {"BF16": "<u2", "F32": "<f4", "I64": "<i8"}
    found = {}
    for file in CHECKPOINT.glob("*.safetensors"):
        data = file.read_bytes()
        begin = 8 + int.from_bytes(data[:8], "little")
        for name, row in json.loads(data[8:begin]).items():
            if name != "__metadata__":
                start, end = (begin + offset for offset in row["data_offsets"])
                flat = np.frombuffer(data[start:end], kinds.get(row["dtype"], "u1"))
                found[name] = flat.reshape(row["shape"])
    return found


def test_names_dtypes_and_shapes_are_the_releases():
    kinds = {name: row[:2] for name, row in headers().items()}
    expected = {f"layers.0.{name}": kind for name, kind in LAYER_0.items()} | ELSEWHERE
    assert {name: kinds.get(name) for name in expected} == expected


def test_layer_0_has_nothing_else():
    names = {name.removeprefix("layers.0.") for name in headers() if "layers.0." in name}
    last_expert = {name for name in names if ".experts." not in name or ".experts.15." in name}
    assert last_expert == set(LAYER_0)


def test_byte_ranges_fit_dtypes_and_shapes():
    for name, (dtype, shape, start, end) in headers().items():
        assert end - start == prod(shape) * WIDTHS[dtype], name


def test_index_names_every_tensor_and_its_file():
    index = read_json("model.safetensors.index.json")
    files = {file.name for file in CHECKPOINT.glob("*.safetensors")}
    assert len(files) > 1
    assert set(index["weight_map"].values()) == files
    assert index["weight_map"].keys() == headers().keys()
    ranges = headers().values()
    assert index["metadata"]["total_size"] == sum(end - start for *_, start, end in ranges)


def test_every_structural_feature_is_there():
    spec = read_spec(CHECKPOINT)
    assert set(spec.compress_ratios) == {0, 4, 128}
    assert spec.num_hash_layers == spec.num_nextn_predict_layers == 1
    assert (spec.hc_mult, spec.o_groups, spec.heads_per_group) == (4, 4, 2)
    assert (spec.n_routed_experts, spec.num_experts_per_tok, spec.n_shared_experts) == (16, 2, 1)
    assert (spec.expert_format, spec.linear_format) == ("fp4", "fp8")
    assert spec.yarn is not None
    # A prompt of 300 tokens has more rows than may be selected, far outside the window.
    assert (spec.sliding_window, spec.index_topk, spec.index_n_heads) == (32, 16, 16)


@pytest.mark.parametrize("split", ExpertSplit)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_it_splits_over_up_to_four_ranks(ranks: int, split: ExpertSplit):
    spec = read_spec(CHECKPOINT)
    entries = catalog(spec, read_headers(CHECKPOINT), mtp=False)
    plan = make_plan(spec, entries, (1,) * ranks, expert_split=split)
    assert len(plan.parts) == ranks
    assert all(rank.total > 0 for rank in plan.rank_bytes)


def test_every_number_is_finite(tensors: dict[str, np.ndarray]):
    kinds = {name: row[0] for name, row in headers().items()}
    for name, values in tensors.items():
        match kinds[name]:
            case "F32":
                assert np.isfinite(values).all(), name
            case "BF16":
                assert (values & 0x7F80 != 0x7F80).all(), name
            case "F8_E4M3":
                assert (values & 0x7F != 0x7F).all(), name
            case "F8_E8M0":
                assert (values != 0xFF).all(), name


def test_no_tensor_was_left_at_zero(tensors: dict[str, np.ndarray]):
    """Sinks and the gates' biases above all, which are easily forgotten."""
    assert [name for name, values in tensors.items() if not values.any()] == []


def test_the_hash_layer_sends_every_token_to_different_experts(tensors: dict[str, np.ndarray]):
    table = tensors["layers.0.ffn.gate.tid2eid"]
    assert (table.min(), table.max()) == (0, 15)
    assert (table[:, 0] != table[:, 1]).all()


def test_it_is_small_and_brings_its_card_and_its_prompt_format():
    files = [file for file in CHECKPOINT.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    assert (CHECKPOINT / "README.md").stat().st_size > 0
    ours = Path(encoding_dsv4.__file__).read_bytes()
    assert (CHECKPOINT / "encoding/encoding_dsv4.py").read_bytes() == ours


def test_its_json_files_are_those_that_the_recipe_writes():
    assert read_json("config.json") == CONFIG
    assert read_json("generation_config.json") == GENERATION
    assert read_json("tokenizer.json") == tokenizer_json(CONFIG["vocab_size"])
    context = CONFIG["max_position_embeddings"]
    assert read_json("tokenizer_config.json") == tokenizer_config(context)


def test_its_tokenizer_has_the_releases_special_tokens():
    text = Text.load(CHECKPOINT)
    assert text.tokenizer.get_vocab_size() == read_spec(CHECKPOINT).vocab_size
    words = "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜></think>"
    ids = text.tokenizer.encode(words, add_special_tokens=False).ids
    assert tuple(ids) == text.chat_ids("hi")
    assert text.tokenizer.token_to_id("<｜end▁of▁sentence｜>") == 1
    assert read_defaults(CHECKPOINT).eos_ids == (1,)


@pytest.mark.parametrize("text", ["Grüße, 你好 🙂\n\t", " The code of the red door is 4182."])
def test_any_text_survives_the_round_trip(text: str):
    tokenizer = Text.load(CHECKPOINT).tokenizer
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids) == text


def test_demo_is_the_only_name_that_is_no_path():
    assert demo.model_dir("demo") == CHECKPOINT
    assert demo.model_dir("/demo") == Path("/demo")
