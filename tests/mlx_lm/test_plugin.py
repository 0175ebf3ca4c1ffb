"""mlx-lm's own loader and generator on DeepSeek's files, against ours."""

from pathlib import Path

import mlx.core as mx
import pytest

from dsv4_tp import demo
from dsv4_tp.core import DType
from dsv4_tp.mlx_lm import register
from dsv4_tp.parallel import load_rank
from tests.model.golden import ROOT, greedy
from tests.storage_files import CONVERSIONS

PROMPT = "The red door is open. The"


@pytest.fixture(scope="module", params=["a_official_fp8_fp4", "demo"])
def directory(request: pytest.FixtureRequest) -> Path:
    return demo.path() if request.param == demo.NAME else ROOT / "layouts" / request.param


@pytest.fixture
def mlx_lm() -> object:
    import mlx_lm

    register()
    return mlx_lm


def test_same_greedy_tokens(directory: Path, mlx_lm: object) -> None:
    model, tokenizer = mlx_lm.load(str(directory))
    prompt = [0, *tokenizer.encode(PROMPT, add_special_tokens=False)]
    theirs = [
        response.token
        for response in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=16)
    ]
    ours = load_rank(directory, None, dtype=DType.BFLOAT16).model
    assert greedy(ours, prompt, 16)[: len(theirs)] == theirs
    assert len(theirs) == 16 or tokenizer.eos_token_id in theirs


@pytest.mark.parametrize("conversion", CONVERSIONS, ids=lambda path: path.name)
def test_conversions_load_as_ours_do(conversion: Path, mlx_lm: object) -> None:
    from mlx_lm.utils import load_model

    theirs = dict(_flat(load_model(conversion)[0]))
    ours = dict(_flat(load_rank(conversion, None, dtype=DType.BFLOAT16).model))
    assert set(theirs) == set(ours)
    assert all(mx.array_equal(ours[name], theirs[name]).item() for name in ours)


def test_loaded_bits_are_the_same(directory: Path, mlx_lm: object) -> None:
    theirs = dict(_flat(mlx_lm.load(str(directory))[0]))
    ours = dict(_flat(load_rank(directory, None, dtype=DType.BFLOAT16).model))
    assert set(theirs) == set(ours)
    differing = [name for name in ours if not mx.array_equal(ours[name], theirs[name]).item()]
    assert differing == []


def _flat(model: object) -> list[tuple[str, mx.array]]:
    from mlx.utils import tree_flatten

    return tree_flatten(model.parameters())
