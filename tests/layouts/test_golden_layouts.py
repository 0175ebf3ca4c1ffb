"""Checkpoints as others store them, against their reference logits, on one rank and on several."""

import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import DType, ExpertSplit
from dsv4_tp.layouts import PLAIN, Format, catalog, read_headers
from dsv4_tp.layouts.tables import BARE, MODULES, OFFICIAL, OWN, SAVED, SELF_ATTN, SWITCH
from dsv4_tp.model import Model
from dsv4_tp.modelspec import Stored, Tensor, read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from tests.layouts.export import Style, export, sample
from tests.model.golden import distance, run, run_mtp
from tests.parallel.team import on_ranks
from tests.storage_files import BASE, CONVERSIONS, FP4, GOLDEN, RAGGED

TOLERANCE = 1e-4
HEADERS = GOLDEN / "headers"
SPLITS = [([1], ExpertSplit.WIDTH), ([1, 1], ExpertSplit.WIDTH), ([1, 1, 1], ExpertSplit.WHOLE)]
SPLITS += [([1, 1, 1], ExpertSplit.WIDTH), ([3, 5], ExpertSplit.WHOLE)]

STACKED = {"{block}.ffn.experts.{w}.weight": 1}
SPLIT = {"{block}.attn.wo_a.weight": 1}


def too_far(
    model_dir: Path, ids: np.ndarray, expected: np.ndarray, *, splits: int = len(SPLITS)
) -> list[object]:
    """The splits whose logits are not those expected, and how far they are."""

    def logits(model: Model) -> np.ndarray:
        return run(model, ids, [ids.shape[1]])

    distances = (
        distance(np.concatenate(on_ranks(model_dir, *split, logits), axis=-1), expected)
        for split in SPLITS[:splits]
    )
    # Not a number is too far, too.
    return [pair for pair in zip(SPLITS, distances, strict=False) if not pair[1] <= TOLERANCE]


@pytest.mark.parametrize("model_dir", [FP4, BASE, RAGGED, *CONVERSIONS], ids=lambda path: path.name)
def test_a_sample_on_one_rank_and_on_several(model_dir: Path) -> None:
    with np.load(model_dir / "expected.npz") as arrays:
        ids, expected = arrays["ids"][:1].astype(np.int32), arrays["logits"][:1]
    assert too_far(model_dir, ids, expected) == []


def test_mtp_stages_on_several_ranks() -> None:
    with np.load(FP4 / "expected.npz") as arrays:
        ids, expected = arrays["ids"][:1].astype(np.int32), arrays["mtp_logits"][:1]
    parts = on_ranks(
        FP4, [3, 5], ExpertSplit.WIDTH, lambda model: run_mtp(model, ids, [50, 100]), mtp=True
    )
    assert distance(np.concatenate(parts, axis=-1), expected) <= TOLERANCE


# FP8 and FP4 values are bfloat16 values too, so these share the logits of the FP4 sample.
@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("d_bf16_plain", Style(mtp=True)),
        ("e1_transformers_save_pretrained", Style(SAVED)),
        ("e2_transformers_module_names", Style(MODULES)),
    ],
    ids=["d", "e1", "e2"],
)
def test_unquantised_conversions(tmp_path: Path, name: str, style: Style) -> None:
    known = json.loads((HEADERS / f"{name}.json").read_text())
    export(tmp_path, style, known["config"], sample()[1])
    assert headers(tmp_path) == known["tensors"]
    with np.load(FP4 / "expected.npz") as arrays:
        ids = arrays["ids"][:1].astype(np.int32)
        assert too_far(tmp_path, ids, arrays["logits"][:1]) == []
        if style.mtp:
            model = load_rank(tmp_path, None, dtype=DType.FLOAT32, mtp=True).model
            assert distance(run_mtp(model, ids, [150]), arrays["mtp_logits"][:1]) <= TOLERANCE


def headers(model_dir: Path) -> dict[str, list[object]]:
    return {name: [e.dtype, *e.shape] for name, e in read_headers(model_dir).items()}


AFFINE = {bits: Format("affine", bits, 64) for bits in (2, 3, 4, 6, 8)}
MXFP4, MXFP8 = Format("mxfp4", 4, 32), Format("mxfp8", 8, 32)


def affine(bits: int, group: int = 64):
    """All modules alike, as mlx-lm does it."""

    def form(tensor: Tensor) -> Format:
        module = tensor.stored is Stored.BF16 and len(tensor.shape) > 1
        return Format("affine", bits, group) if module and ".gate." not in tensor.name else PLAIN

    return form


def mixed(tensor: Tensor) -> Format:
    """Another format for almost each kind, a packed gate among them."""
    if ".experts." in tensor.name:
        return MXFP4 if "w1" in tensor.name else AFFINE[2] if "w3" in tensor.name else AFFINE[3]
    if "shared_experts" in tensor.name or ".wo_" in tensor.name:
        return MXFP8
    if ".ffn.gate." in tensor.name:
        return AFFINE[8] if tensor.stored is Stored.BF16 else PLAIN
    return affine(6, 32)(tensor) if "wkv" in tensor.name else affine(4, 128)(tensor)


STYLES = {
    "short, 8 bits": Style(OFFICIAL, STACKED | SPLIT, affine(8)),
    "short, 2 bits": Style(OFFICIAL, STACKED | SPLIT, affine(2, 32)),
    "short, stacked bf16": Style(OFFICIAL, STACKED, mtp=True),
    "short, mixed": Style(OFFICIAL, STACKED | SPLIT, mixed, mtp=True),
    "switch, 6 bits": Style(SWITCH, {"{layer}.hc_{sub}.{leaf}": 1}, affine(6), wo_a_by_group=True),
    "switch, mixed": Style(
        SWITCH, {"{layer}.attn.wo_a.weight": 1, "{layer}.ffn.gate.bias": 1}, mixed
    ),
    "switch, bf16": Style(SWITCH, {"{layer}.ffn.shared_experts.{w}.weight": 1}),
    "switch, experts one by one": Style(SWITCH, {"{layer}.ffn.experts.{w}.weight": 1}, mixed),
    "self_attn, 3 bits": Style(SELF_ATTN, {"{layer}.hc_{sub}.{leaf}": 1}, affine(3, 128)),
    "switch, no prefix": Style(BARE[0], {}, mixed),
    "our own, 5 bits": Style(OWN, {}, affine(5)),
    "fp16": Style(
        SWITCH,
        {},
        affine(4),
        dtypes={Stored.BF16: mx.float16, Stored.F32: mx.float32, Stored.INT: mx.int32},
    ),
}


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_conversion_of_our_own_against_its_exact_values(tmp_path: Path, style: Style) -> None:
    config, values = sample()
    held = export(tmp_path / "packed", style, config, values)
    exact = {Stored.BF16: mx.float32, Stored.F32: mx.float32, Stored.INT: mx.int32}
    export(tmp_path / "plain", Style(mtp=style.mtp, dtypes=exact), config, held)
    ids = np.load(FP4 / "expected.npz")["ids"][:1, :40].astype(np.int32)
    model = load_rank(tmp_path / "plain", None, dtype=DType.FLOAT32).model
    assert too_far(tmp_path / "packed", ids, run(model, ids, [40]), splits=3) == []


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("style", ["short, mixed", "switch, mixed", "fp16", "self_attn, 3 bits"])
def test_a_rank_holds_the_bytes_that_were_planned(tmp_path: Path, style: str, dtype: DType) -> None:
    export(tmp_path, STYLES[style], *sample())
    spec = read_spec(tmp_path)
    found = catalog(spec, read_headers(tmp_path), mtp=False)
    plan = make_plan(spec, found, [3, 5], expert_split=ExpertSplit.WIDTH, dtype=dtype)
    for part, held in zip(plan.parts, plan.rank_bytes, strict=True):
        assert load_rank(tmp_path, part, dtype=dtype).weight_bytes == held.total


def test_the_short_conversion_has_the_names_of_the_known_one(tmp_path: Path) -> None:
    known = json.loads((HEADERS / "b_mlx_short_8bit.json").read_text())
    export(tmp_path, STYLES["short, 8 bits"], known["config"], sample()[1])
    written = headers(tmp_path)
    assert written.keys() == known["tensors"].keys()
    assert {n: e[1:] for n, e in written.items()} == {n: e[1:] for n, e in known["tensors"].items()}
