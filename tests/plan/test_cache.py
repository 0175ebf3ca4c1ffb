"""What the plan says of the caches, against caches that were filled."""

from dataclasses import replace

import mlx.core as mx
import pytest

from dsv4_tp.core import CacheRows, DType
from dsv4_tp.model import Model
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan import cache_bytes
from tests.model.tiny import random_ids, randomise, tiny_spec
from tests.plan.running import model_of
from tests.specs import FLASH, PRO, TINY

DTYPES = (DType.FLOAT32, DType.BFLOAT16)
RATIOS = {"one of each": (0, 4, 128), "windows": (0, 0), "ratio 4": (4,), "ratio 128": (128, 128)}


@pytest.mark.parametrize("rows", CacheRows)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ratios", RATIOS.values(), ids=RATIOS)
def test_bytes_are_those_of_caches_that_were_filled(
    ratios: tuple[int, ...], dtype: DType, rows: CacheRows
):
    spec = tiny_spec(compress_ratios=ratios, num_hidden_layers=len(ratios), num_hash_layers=0)
    model, at = model_of(spec, dtype), 0
    model.cache_rows = rows
    cache = model.make_cache()
    ids = random_ids(1, 300, spec.vocab_size)
    # Single tokens, windows begun and completed, chunks across several of either ratio.
    for until in (1, 2, 3, 4, 5, 8, 11, 127, 128, 129, 255, 256, 300):
        mx.eval(model.streams(ids[:, at:until], cache), cache.arrays())
        at = until
        assert sum(layer.nbytes for layer in cache) == cache_bytes(spec, at, dtype, rows), at


def test_the_mtp_stage_is_one_layer_more():
    spec = tiny_spec(compress_ratios=(0, 4), num_hidden_layers=2, num_hash_layers=0)
    model = randomise(Model(spec, mtp=True))
    cache, ids = model.make_cache(), random_ids(1, 130, spec.vocab_size)
    model.mtp_note(model.streams(ids, cache), ids, cache)
    mx.eval(cache.arrays())
    held = sum(layer.nbytes for layer in cache)
    assert held == cache_bytes(spec, 130, DType.FLOAT32, mtp=True)
    assert held > cache_bytes(spec, 130, DType.FLOAT32)


@pytest.mark.parametrize(
    ("spec", "rows", "per_token"),
    [
        (FLASH, CacheRows.EXACT, 6880),
        (PRO, CacheRows.EXACT, 9848),
        # 584 bytes of each row of 1,024, 68 of each index row of 256.
        (FLASH, CacheRows.TRAINED, 21 * (584 + 68) / 4 + 20 * 584 / 128),
        (PRO, CacheRows.TRAINED, 30 * (584 + 68) / 4 + 31 * 584 / 128),
    ],
)
def test_the_real_models_grow_by_the_published_bytes_per_token(
    spec: ModelSpec, rows: CacheRows, per_token: float
):
    """In bfloat16, from a count of rows by hand."""
    for least, most in ((8 << 10, 128 << 10), (128 << 10, 1 << 20)):
        less, more = (cache_bytes(spec, n, DType.BFLOAT16, rows) for n in (least, most))
        assert 0.98 < (more - less) / (most - least) / per_token < 1.05


def test_a_longer_context_never_holds_less():
    spec = replace(TINY, compress_ratios=(0, 4, 128))
    exact = [cache_bytes(spec, tokens, DType.BFLOAT16) for tokens in range(700)]
    assert exact == sorted(exact)
    assert exact[0] == 0
