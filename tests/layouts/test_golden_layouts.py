"""Checkpoints as others store them, against their reference logits, on one rank and on several."""

import json
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.core import DType, ExpertSplit
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.model import Model
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from tests.layouts.export import export, sample
from tests.layouts.styles import STYLES
from tests.model.golden import distance, run, run_mtp
from tests.parallel.team import on_ranks
from tests.storage_files import BASE, CONVERSIONS, FP4, GOLDEN, RAGGED

TOLERANCE = 1e-4
HEADERS = GOLDEN / "headers"
SPLITS = [([1], ExpertSplit.WIDTH), ([1, 1, 1], ExpertSplit.WIDTH), ([3, 5], ExpertSplit.WHOLE)]


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


@pytest.mark.parametrize(
    "model_dir",
    [
        *(FP4, BASE, RAGGED, CONVERSIONS[0]),
        *(pytest.param(path, marks=pytest.mark.slow) for path in CONVERSIONS[1:]),
    ],
    ids=lambda path: path.name,
)
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
        pytest.param("d_bf16_plain", "bf16", marks=pytest.mark.slow),
        ("e1_transformers_save_pretrained", "saved"),
        ("e2_transformers_module_names", "modules"),
    ],
    ids=["d", "e1", "e2"],
)
def test_unquantised_conversions(tmp_path: Path, name: str, style: str) -> None:
    known = json.loads((HEADERS / f"{name}.json").read_text())
    export(tmp_path, STYLES[style], known["config"], sample()[1])
    assert headers(tmp_path) == known["tensors"]
    with np.load(FP4 / "expected.npz") as arrays:
        ids = arrays["ids"][:1].astype(np.int32)
        assert too_far(tmp_path, ids, arrays["logits"][:1]) == []
        if STYLES[style].mtp:
            model = load_rank(tmp_path, None, dtype=DType.FLOAT32, mtp=True).model
            assert distance(run_mtp(model, ids, [150]), arrays["mtp_logits"][:1]) <= TOLERANCE


def headers(model_dir: Path) -> dict[str, list[object]]:
    return {name: [e.dtype, *e.shape] for name, e in read_headers(model_dir).items()}


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize(
    "style", ["base", "short, mixed", "switch, 4 bits in fp16", "self_attn, 3 bits"]
)
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
