import json
from dataclasses import replace
from pathlib import Path

import pytest

from dsv4_tp.errors import CheckpointError, ModelError
from dsv4_tp.layouts import FP4 as FP4_FORMAT
from dsv4_tp.layouts import (
    FP8_BLOCK,
    Catalog,
    Drafter,
    Entry,
    catalog,
    native_catalog,
    read_headers,
)
from dsv4_tp.layouts import PLAIN as NOT_QUANTISED
from dsv4_tp.layouts.match import match
from dsv4_tp.layouts.names import Reading
from dsv4_tp.layouts.tables import OFFICIAL
from dsv4_tp.modelspec import ModelSpec, contract, parse_spec, read_spec
from tests.storage_files import BASE, CONVERSIONS, FP4, GOLDEN, NATIVE, PLAIN, RAGGED

CONFIGS = Path(__file__).parent.parent / "plan" / "configs"
MODELS = sorted([NATIVE, FP4, BASE, RAGGED, *(GOLDEN / "public").glob("a?_*")])


def headers(model_dir: Path) -> tuple[ModelSpec, dict[str, Entry]]:
    return read_spec(model_dir), read_headers(model_dir)


def refusal(spec: ModelSpec, entries: dict[str, Entry], *, mtp: bool = False) -> str:
    with pytest.raises(CheckpointError) as caught:
        catalog(spec, entries, mtp=mtp)
    return str(caught.value)


def named(found: Catalog) -> set[str]:
    entries = (entry for source in found.sources for entry in (*source.weights, *source.scales))
    return {entry.name for entry in entries} | {drop.name for drop in found.dropped}


@pytest.mark.parametrize("mtp", [False, True], ids=["backbone", "mtp"])
@pytest.mark.parametrize("model_dir", MODELS, ids=lambda path: path.name)
def test_every_name_and_every_tensor_has_its_counterpart(model_dir: Path, mtp: bool) -> None:
    spec, entries = headers(model_dir)
    found = catalog(spec, entries, mtp=mtp)
    assert named(found) == entries.keys()
    assert [source.tensor for source in found.sources] == list(contract(spec, mtp=mtp))


@pytest.mark.parametrize(("model", "count"), [("flash", 69_187), ("pro", 145_116)])
def test_the_real_models_have_as_many_tensors_as_were_published(model: str, count: int) -> None:
    spec = read_spec(CONFIGS / f"deepseek-v4-{model}.json")
    reading = Reading(OFFICIAL, (0,) * len(OFFICIAL.rows))
    names = [
        name
        for tensor in contract(spec, mtp=True)
        for name in match(tensor, reading.names(tensor, spec), {}, spec.o_groups).names
    ]
    assert len(names) == len(set(names)) == count


def test_formats_follow_the_files() -> None:
    sources = {s.tensor.name: s for s in catalog(*headers(FP4), mtp=False).sources}
    assert sources["layers.0.attn.wq_b.weight"].format == FP8_BLOCK
    assert sources["layers.0.ffn.experts.w1.weight"].format == FP4_FORMAT
    assert sources["embed.weight"].format == NOT_QUANTISED
    experts = sources["layers.0.ffn.experts.w1.weight"]
    assert [entry.name for entry in experts.weights][:2] == [
        "layers.0.ffn.experts.0.w1.weight",
        "layers.0.ffn.experts.1.w1.weight",
    ]
    assert experts.scales[1].name == "layers.0.ffn.experts.1.w1.scale"
    assert sources["hc_head.fn"].weights[0].name == "hc_head_fn"
    assert sources["layers.2.hc_ffn.base"].weights[0].name == "layers.2.hc_ffn_base"


def test_a_bare_config_gives_the_same_formats_as_the_files() -> None:
    spec, entries = headers(FP4)
    planned, found = native_catalog(spec, mtp=True), catalog(spec, entries, mtp=True)
    assert [(s.tensor, s.format, s.dtype) for s in planned.sources] == [
        (s.tensor, s.format, s.dtype) for s in found.sources
    ]


@pytest.mark.parametrize("model_dir", CONVERSIONS, ids=lambda path: path.name)
def test_a_bare_config_of_a_conversion_gives_the_files_formats(model_dir: Path) -> None:
    spec, entries = headers(model_dir)
    planned, found = native_catalog(spec, mtp=False), catalog(spec, entries, mtp=False)
    for one, other in zip(planned.sources, found.sources, strict=True):
        assert (one.tensor, one.format) == (other.tensor, other.format)
        assert one.held_bytes(one.tensor.shape, None) == other.held_bytes(one.tensor.shape, None)


def test_a_bare_config_with_a_setting_for_no_module() -> None:
    config = json.loads((CONVERSIONS[1] / "config.json").read_text())
    config["quantization"]["model.layers.0.attn.nothing"] = {"group_size": 64, "bits": 4}
    with pytest.raises(ModelError, match=r"'model\.layers\.0\.attn\.nothing' names no module"):
        native_catalog(parse_spec(config), mtp=False)


def test_copies_in_base_checkpoints_are_dropped_with_a_reason() -> None:
    found = catalog(*headers(BASE), mtp=True)
    reasons = {drop.name: drop.reason for drop in found.dropped}
    assert reasons.keys() == {"mtp.0.emb.tok_emb.weight", "mtp.0.head.weight"}
    assert "copy of embed.weight" in reasons["mtp.0.emb.tok_emb.weight"]
    assert any("copy of head.weight" in note for note in found.notes)


def without(entries: dict[str, Entry], prefix: str) -> dict[str, Entry]:
    return {name: entry for name, entry in entries.items() if not name.startswith(prefix)}


def stranger(name: str) -> dict[str, Entry]:
    return {name: Entry(name, "F32", (2, 3), Path("model.safetensors"), 0, 24)}


@pytest.mark.parametrize(
    "name",
    [
        "layers.0.attn.bogus.weight",
        "layers.5.attn_norm.weight",  # one layer too many
        "layers.0.ffn.gate.bias",  # a hash layer has none
        "layers.0.ffn.experts.6.w1.weight",  # one expert too many
        "mtp.0.bogus",
        "mtp.1.norm.weight",
        "embed.scale",
    ],
)
def test_a_name_nobody_consumes(name: str) -> None:
    spec, entries = headers(PLAIN)
    message = refusal(spec, entries | stranger(name))
    assert f"1 tensor of the files that config.json has no place for: {name}" in message


def test_tensors_nobody_fills() -> None:
    spec, entries = headers(FP4)
    message = refusal(spec, without(entries, "layers.1.ffn.experts.3.w2"))
    assert "2 tensors in no file that config.json asks for" in message
    assert "layers.1.ffn.experts.3.w2.weight, layers.1.ffn.experts.3.w2.scale" in message
    message = refusal(spec, without(entries, "layers.2."))
    assert message.startswith(f"{FP4}: 69 tensors")
    assert "(+65 more)" in message


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        ("embed.weight", {"shape": (384, 255)}, "BF16 [384, 255], expected BF16 [384, 256]"),
        ("embed.weight", {"dtype": "I32"}, "expected BF16 or F32 or F16 [384, 256]"),
        ("layers.0.attn.wq_a.weight", {"dtype": "BF16"}, "expected F8_E4M3 [128, 256]"),
        ("layers.0.attn.wq_a.scale", {"shape": (1, 3)}, "expected F8_E8M0 [1, 2]"),
        ("layers.0.attn.wq_a.scale", {"dtype": "BF16"}, "expected F8_E8M0 or F32 [1, 2]"),
        ("layers.0.ffn.experts.2.w1.weight", {"shape": (128, 256)}, "expected I8 [128, 128]"),
        ("layers.0.ffn.experts.2.w1.scale", {"dtype": "F32"}, "expected F8_E8M0 [128, 8]"),
        ("layers.0.ffn.gate.tid2eid", {"dtype": "F32"}, "expected I64 or I32 [384, 2]"),
        ("layers.0.attn.attn_sink", {"shape": (7,)}, "expected F32 [8]"),
    ],
)
def test_a_tensor_of_another_shape_or_dtype(
    name: str, change: dict[str, object], complaint: str
) -> None:
    spec, entries = headers(FP4)
    message = refusal(spec, entries | {name: replace(entries[name], **change)})
    assert "1 tensor not of the kind that config.json says" in message
    assert f"{name} in {entries[name].file.name} is" in message
    assert complaint in message


def test_columns_that_fill_no_group() -> None:
    spec, entries = headers(FP4)
    odd = replace(spec, moe_intermediate_size=120)
    complaint = r"layers\.0\.ffn\.experts\.w2\.weight .* groups of 32, .* 120 columns"
    with pytest.raises(ModelError, match=complaint):
        catalog(odd, entries, mtp=False)
    with pytest.raises(ModelError, match=complaint):
        native_catalog(odd, mtp=False)


def test_promised_mtp_weights_that_are_not_there() -> None:
    spec, entries = headers(PLAIN)
    backbone = without(entries, "mtp.")
    assert catalog(spec, backbone, mtp=False).notes == (
        "config.json announces 1 MTP stages, the files hold none: speculation is off",
    )
    found = catalog(spec, backbone, mtp=True)
    assert found.drafter is Drafter.STRIPPED
    assert not found.has_mtp


@pytest.mark.parametrize("mtp", [False, True], ids=["backbone", "mtp"])
def test_half_an_mtp_stage_is_refused_even_where_none_was_asked_for(mtp: bool) -> None:
    spec, entries = headers(PLAIN)
    message = refusal(spec, without(entries, "mtp.0.e_proj"), mtp=mtp)
    assert "1 tensor in no file that config.json asks for: mtp.0.e_proj.weight" in message


def test_a_dspark_drafter_is_left_out_with_a_reason() -> None:
    spec, entries = headers(PLAIN)
    drafter = {
        name: stranger(name)[name]
        for name in ("mtp.0.main_proj.weight", "mtp.2.markov_head.markov_w1.weight")
    }
    found = catalog(spec, entries | drafter, mtp=True)
    assert found.drafter is Drafter.DSPARK
    assert not found.has_mtp
    assert {d.reason for d in found.dropped} == {
        "a stage of the DSpark drafter, which is not used yet"
    }
    assert drafter.keys() <= {drop.name for drop in found.dropped}
    assert any("DSpark" in note for note in found.notes)
    by_config = catalog(replace(spec, dspark_block_size=5), entries, mtp=True)
    assert by_config.drafter is Drafter.DSPARK


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.layers.0.ffn.switch_mlp.up_proj.weight", " one of mlx-lm's names with switch_mlp"),
        (
            "layers.0.attn.wo_a.0.weight",
            "wo_a.weight in model.safetensors and layers.0.attn.wo_a.0.weight in",
        ),
        ("model.layers.0.self_attn.q_a_proj.weight", "one of transformers' names of modules"),
        ("model.layers.1.attn.norm.weight", "as its save_pretrained writes them"),
        (
            "layers.1.ffn.experts.w1.weight",
            "layers.0.ffn.experts.0.w1.weight in model.safetensors and",
        ),
    ],
)
def test_two_layouts_mixed(name: str, words: str) -> None:
    spec, entries = headers(PLAIN)
    message = refusal(spec, entries | stranger(name))
    assert "two layouts are mixed: " in message
    assert words in message
    assert name in message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("layers.0.attn.wq_a.weight_scale_inv", "a conversion with weight_scale_inv"),
        ("layers.0.attn.wq_a.qweight", "a quantisation by GPTQ or AWQ"),
    ],
)
def test_a_family_that_is_known_but_not_supported_is_named(name: str, words: str) -> None:
    spec, entries = headers(PLAIN)
    message = refusal(spec, entries | stranger(name))
    assert f"{name} in model.safetensors shows {words}, a layout that is not supported" in message
