"""The model against vectors of independent implementations: at most 1e-4 of a logit, in float32.

With rows as the model was trained to see them, most tokens' logits at most 1e-3.
"""

import numpy as np
import pytest

from dsv4_tp.core import CacheRows
from tests.model.golden import (
    LAYOUTS,
    PUBLIC,
    Case,
    distance,
    greedy,
    hidden,
    load_case,
    run,
    run_mtp,
    share_alike,
)

TOLERANCE = 1e-4
# Of those that the reference also evaluated with its rounding of rows.
ROUNDED = ["public/a1_flash_mini", "public/a3_window", "layouts/a_official_fp8_fp4"]
FOLDERS = [f"public/{name}" for name in PUBLIC] + [f"layouts/{name}" for name in LAYOUTS]
SLOW = "layouts/a_base_fp8"  # whose products are the dearest; tests/layouts reads it too


@pytest.fixture(
    scope="module",
    params=[
        *(pytest.param(name, marks=pytest.mark.slow if name == SLOW else ()) for name in FOLDERS),
        "native",
    ],
)
def case(request: pytest.FixtureRequest) -> Case:
    return load_case(request.param)


def test_prefill(case: Case) -> None:
    logits = run(case.model, case.ids, [case.ids.shape[1]])
    assert distance(logits, case.arrays["logits"]) <= TOLERANCE


def test_step_by_step(case: Case) -> None:
    # How weights are held and how tokens are fed meet nowhere, so of layouts some steps will do; of
    # long cases so many as complete one of the long pool's. The shorter ones begin with nothing.
    length = case.ids.shape[1]
    steps = 40 if case.layout else length if length < 200 else 60
    logits = run(case.model, case.ids, [*filter(None, [case.ids.shape[1] - steps]), *[1] * steps])
    assert distance(logits, case.arrays["logits"]) <= TOLERANCE


def test_chunked(case: Case) -> None:
    logits = run(case.model, case.ids, case.chunks)
    assert distance(logits, case.arrays["logits"]) <= TOLERANCE


def test_each_row_alone(case: Case) -> None:
    length = case.ids.shape[1]
    if case.ids.shape[0] == 1:
        pytest.skip("this case has one row")
    rows = [run(case.model, case.ids[b : b + 1], [length]) for b in range(case.ids.shape[0])]
    assert distance(np.concatenate(rows), case.arrays["logits"]) <= TOLERANCE


def test_prefixes(case: Case) -> None:
    if "prefix_lengths" not in case.arrays:
        pytest.skip("this case has no prefixes")
    for length in case.arrays["prefix_lengths"].tolist():
        logits = run(case.model, case.ids[:, :length], [length])
        assert distance(logits, case.arrays["logits"][:, :length]) <= TOLERANCE, length


def test_mtp(case: Case) -> None:
    if "mtp_logits" not in case.arrays:
        assert case.model.spec.num_nextn_predict_layers == 0
        return
    steps = [1] * 40  # more than its window
    chunks = [9, *steps, case.ids.shape[1] - 9 - len(steps)]
    assert distance(run_mtp(case.model, case.ids, chunks), case.arrays["mtp_logits"]) <= TOLERANCE


def test_greedy(case: Case) -> None:
    if "greedy_ids" not in case.arrays:
        pytest.skip("this case has no greedy continuation")
    expected = case.arrays["greedy_ids"].tolist()
    assert greedy(case.model, case.arrays["greedy_prompt"].tolist(), len(expected)) == expected


def test_hidden(case: Case) -> None:
    got = hidden(case.model, case.ids)
    if "hidden" in case.arrays:
        expected, got = case.arrays["hidden"], got[:, case.arrays["hidden_pos"]]
    elif "hidden.0" in case.arrays:
        depths = [key for key in case.arrays if key.startswith("hidden.")]
        expected = np.concatenate([case.arrays[f"hidden.{i}"] for i in range(len(depths))])
        got = got[1:]  # these start after the first layer
    else:
        pytest.skip("this case has no hidden states")
    assert distance(got, expected) <= TOLERANCE


@pytest.fixture(scope="module", params=ROUNDED)
def rounded(request: pytest.FixtureRequest) -> Case:
    return load_case(request.param, CacheRows.TRAINED)


@pytest.mark.parametrize(
    "fed", ["whole", "chunked", pytest.param("step by step", marks=pytest.mark.slow)]
)
def test_rows_as_trained(rounded: Case, fed: str) -> None:
    length = rounded.ids.shape[1]
    chunks = {"whole": [length], "chunked": rounded.chunks, "step by step": [1] * length}[fed]
    logits = run(rounded.model, rounded.ids, chunks)
    assert share_alike(logits, rounded.arrays["logits_fakequant_kv"]) > 0.75
    assert share_alike(logits, rounded.arrays["logits"]) < 0.1
