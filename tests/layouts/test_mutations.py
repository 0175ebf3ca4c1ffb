"""One tensor lost, renamed, turned or cut: the load fails and names it, in every layout.

Thousands of cases on headers alone (all of them if slow, else a twelfth); a few with real files,
read to the end. A square matrix that is turned looks the same in a header.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest

from dsv4_tp.core import DType
from dsv4_tp.errors import CheckpointError, ModelError
from dsv4_tp.layouts import Entry, catalog, read_headers
from dsv4_tp.layouts.headers import DTYPE_BYTES, INDEX
from dsv4_tp.modelspec import ModelSpec, parse_spec, read_spec
from dsv4_tp.parallel import load_rank
from tests.layouts.export import export, sample
from tests.layouts.styles import STYLES
from tests.storage_files import (
    BASE,
    GOLDEN,
    NATIVE,
    PLAIN,
    change_config,
    copy_model,
    read_file,
    write_file,
)

SAMPLES = sorted((GOLDEN / "layouts").iterdir())
HEADERS = sorted((GOLDEN / "headers").iterdir())
SHORT, SWITCH, MIXED = (
    GOLDEN / "layouts" / name
    for name in ("b_mlx_short_4bit", "c1_mlx_switch_4bit_mxfp4", "c2_mlx_switch_mxfp8_mxfp4")
)

# Families and spellings that no sample has.
WRITTEN = ("short, stacked bf16", "switch, 6 bits", "no prefix, mixed", "our own, 5 bits")

Entries = dict[str, Entry]


def known(path: Path) -> tuple[ModelSpec, Entries]:
    """The model and the entries of a checkpoint, or of the headers of one."""
    if path.is_dir():
        return read_spec(path), read_headers(path)
    known = json.loads(path.read_text())
    entries = {
        name: Entry(name, dtype, tuple(shape), path, 0, prod(shape) * DTYPE_BYTES[dtype])
        for name, (dtype, *shape) in known["tensors"].items()
    }
    return parse_spec(known["config"]), entries


def lost(entries: Entries, name: str) -> Iterator[Entries]:
    yield {other: entry for other, entry in entries.items() if other != name}


def renamed(entries: Entries, name: str) -> Iterator[Entries]:
    for new in (name + "x", "x" + name):
        yield {
            new if other == name else other: replace(entry, name=new) if other == name else entry
            for other, entry in entries.items()
        }


def turned(entries: Entries, name: str) -> Iterator[Entries]:
    shape = entries[name].shape
    turns = {(*shape[:-2], *shape[:-3:-1]), (*shape[1::-1], *shape[2:])} - {shape}
    for turn in turns:
        yield entries | {name: replace(entries[name], shape=turn)}


def cut(entries: Entries, name: str) -> Iterator[Entries]:
    entry = entries[name]
    first, *others = entry.shape
    shapes = {(first - 1, *others), (*entry.shape[:-1], entry.shape[-1] - 1)}
    for shape in shapes:
        yield entries | {name: replace(entry, shape=shape, nbytes=prod(shape))}


def of_interest(entries: Entries) -> list[str]:
    """All names but those of experts in the middle, and of layer 3, which is like layer 1."""
    alike = re.compile(r"\.experts\.[1-4]\.|layers\.3\.")
    return [name for name in entries if not alike.search(name)]


EVERY = pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 12])
CHANGES = pytest.mark.parametrize("change", [lost, renamed, turned, cut])
Change = Callable[[Entries, str], Iterator[Entries]]


@EVERY
@CHANGES
@pytest.mark.parametrize(
    "path", [PLAIN, NATIVE, *SAMPLES, *HEADERS], ids=lambda path: path.name[:8]
)
def test_any_one_tensor(path: Path, change: Change, every: int) -> None:
    check_any_one(*known(path), change, every)


@EVERY
@CHANGES
@pytest.mark.parametrize("style", WRITTEN)
def test_one_that_we_wrote(tmp_path: Path, style: str, change: Change, every: int) -> None:
    export(tmp_path, STYLES[style], *sample())
    check_any_one(*known(tmp_path), change, every)


def check_any_one(spec: ModelSpec, entries: Entries, change: Change, every: int) -> None:
    dropped = {drop.name for drop in catalog(spec, entries, mtp=True).dropped}
    names = [name for name in of_interest(entries) if name not in dropped][::every]
    passed, unnamed, cases = [], [], 0
    for name in names:
        for spoilt in change(entries, name):
            cases += 1
            message = refusal(spec, spoilt)
            passed += [name] * (message is None)
            unnamed += [name] * (message is not None and name not in message)
    assert (passed, unnamed) == ([], [])
    assert cases > len(names) / 4


def refusal(spec: ModelSpec, entries: Entries) -> str | None:
    try:
        catalog(spec, entries, mtp=False)
    except CheckpointError as error:
        return str(error)
    return None


def test_copies_that_are_left_out_may_be_lost_but_not_renamed() -> None:
    spec, entries = known(BASE)
    name = "mtp.0.emb.tok_emb.weight"
    assert [refusal(spec, spoilt) for spoilt in lost(entries, name)] == [None]
    assert all(name in str(refusal(spec, spoilt)) for spoilt in renamed(entries, name))


def spoil_scales(entries: Entries, name: str, groups: int) -> Entries:
    entry = entries[name]
    return entries | {name: replace(entry, shape=(*entry.shape[:-1], groups))}


@pytest.mark.parametrize("groups", [1, 2, 8, 16, 256])
@pytest.mark.parametrize("path", [SHORT, SWITCH, MIXED], ids=lambda path: path.name[:2])
def test_scales_of_another_group_size(path: Path, groups: int) -> None:
    """Of scales alone, and of scales and biases alike."""
    spec, entries = known(path)
    scales = [name for name in entries if name.endswith(".scales")]
    for name in scales:
        if entries[name].shape[-1] == groups:
            continue
        spoilt = spoil_scales(entries, name, groups)
        assert name.removesuffix(".scales") in str(refusal(spec, spoilt))
        biases = name.removesuffix("scales") + "biases"
        if biases in entries:
            spoilt = spoil_scales(spoilt, biases, groups)
            assert name.removesuffix(".scales") in str(refusal(spec, spoilt))


@pytest.mark.parametrize(
    ("key", "setting", "words"),
    [
        ("model.layers.9.attn.wkv", {"group_size": 64, "bits": 4}, "names no module"),
        ("layers.0.attn.nothing", False, "names no module"),
        ("model.layers.0.attn.wkv", {"group_size": 32, "bits": 4}, "groups of 64, but"),
        ("model.layers.0.attn.wkv", {"group_size": 64, "bits": 8}, "says affine, 8 bits"),
        ("layers.0.attn.wkv", {"group_size": 64, "bits": 8}, "says affine, 8 bits"),
        ("model.layers.0.self_attn.kv_proj", False, "says not quantised"),
        (
            "lm_head",
            {"group_size": 32, "bits": 4, "mode": "mxfp4"},
            "lm_head.weight in model-00002-of-00002.safetensors is stored as",
        ),
        (
            "model.layers.0.ffn.switch_mlp.up_proj",
            {"group_size": 64, "bits": 4},
            "safetensors is stored as mxfp4, 4 bits, groups of 32, but",
        ),
        ("model.layers.0.ffn.gate", {"group_size": 64, "bits": 8}, "stored as not quantised"),
    ],
)
def test_a_setting_that_the_files_do_not_bear_out(
    tmp_path: Path, key: str, setting: object, words: str
) -> None:
    config = json.loads((SWITCH / "config.json").read_text())
    config["quantization"][key] = setting
    message = str(refusal(parse_spec(config), read_headers(SWITCH)))
    assert words in message
    assert repr(key) in message


def test_settings_are_found_under_the_paths_of_files_and_of_modules() -> None:
    config = json.loads((SWITCH / "config.json").read_text())
    own = config["quantization"]
    for old, new in (
        ("model.embed_tokens", "embed"),
        ("lm_head", "head"),
        ("model.layers.0.ffn.shared_experts.gate_proj", "layers.0.ffn.shared_experts.w1"),
        ("model.layers.1.ffn.switch_mlp.up_proj", "layers.1.ffn.experts.w3"),
    ):
        own[new] = own.pop(old)
    assert refusal(parse_spec(config), read_headers(SWITCH)) is None


def test_another_default_than_the_files_show() -> None:
    config = json.loads((SHORT / "config.json").read_text())
    config["quantization"]["bits"] = 8
    message = str(refusal(parse_spec(config), read_headers(SHORT)))
    assert "affine, 4 bits, groups of 64, but config.json's quantization says affine, 8" in message


@pytest.mark.parametrize(
    "quantization",
    [{"bits": 4}, {"bits": "4", "group_size": 64}, {"bits": 4, "group_size": 64, "mode": "int4"}],
)
def test_settings_that_cannot_be_read(quantization: dict[str, object]) -> None:
    config = json.loads((SHORT / "config.json").read_text())
    with pytest.raises(ModelError, match=r"config\.json: quantization: "):
        parse_spec(config | {"quantization": quantization})
    with pytest.raises(ModelError, match=r"layers\.0\.attn\.wkv"):
        parse_spec(config | {"quantization": config["quantization"] | {"layers.0.attn.wkv": 4}})


def test_no_settings_at_all_leave_the_word_to_the_headers() -> None:
    config = json.loads((SHORT / "config.json").read_text())
    del config["quantization"], config["quantization_config"]
    assert refusal(parse_spec(config), read_headers(SHORT)) is None


def test_another_method_of_quantisation_is_refused() -> None:
    config = json.loads((BASE / "config.json").read_text())
    config["quantization_config"]["quant_method"] = "gptq"
    with pytest.raises(ModelError, match="quant_method is 'gptq', expected one of fp8"):
        parse_spec(config)


def spoil_file(model_dir: Path, name: str, change: Callable[[dict[str, object]], None]) -> None:
    for file in model_dir.glob("*.safetensors"):
        tensors = read_file(file)
        if name in tensors:
            change(tensors)
            write_file(file, tensors)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.ffn.switch_mlp.up_proj.scales",
        "model.layers.1.attn.wo_a.biases",
        "model.embed_tokens.weight",
        "lm_head.scales",
    ],
)
def test_on_disk(tmp_path: Path, name: str) -> None:
    model_dir = copy_model(SWITCH, tmp_path)
    (model_dir / INDEX).unlink()
    spoil_file(model_dir, name, lambda tensors: tensors.pop(name))
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_rank(model_dir, None, dtype=DType.FLOAT32)


def test_an_index_that_names_an_absent_shard(tmp_path: Path) -> None:
    model_dir = copy_model(SWITCH, tmp_path)
    (model_dir / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"1 of 2 files .* missing: model-00002-of-00002"):
        load_rank(model_dir, None, dtype=DType.FLOAT32)


def test_two_checkpoints_in_one_directory(tmp_path: Path) -> None:
    model_dir = copy_model(SWITCH, tmp_path)
    (model_dir / INDEX).unlink()
    other = SHORT / "model-00001-of-00002.safetensors"
    (model_dir / "model-00003-of-00003.safetensors").write_bytes(other.read_bytes())
    with pytest.raises(CheckpointError, match="two layouts are mixed: "):
        load_rank(model_dir, None, dtype=DType.FLOAT32)


def test_a_file_that_ends_too_soon(tmp_path: Path) -> None:
    model_dir = copy_model(SWITCH, tmp_path)
    file = model_dir / "model-00001-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"truncated: .* ends at"):
        load_rank(model_dir, None, dtype=DType.FLOAT32)


@pytest.mark.parametrize("kind", ["layer_types", "mlp_layer_types"])
@pytest.mark.parametrize("value", [7, [3], "moe"])
def test_layer_kinds_that_are_no_list_of_words(tmp_path: Path, kind: str, value: object) -> None:
    model_dir = copy_model(PLAIN, tmp_path)
    kinds = {"layer_types": ["sliding_attention"] * 5, "mlp_layer_types": ["moe"] * 5}
    change_config(model_dir, compress_ratios=None, num_hash_layers=None, **kinds | {kind: value})
    with pytest.raises(ModelError, match=rf"{kind} is .*, expected a list of strings"):
        read_spec(model_dir)
