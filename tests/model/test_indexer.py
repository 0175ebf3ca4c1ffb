"""What indexers make of rows that are held in 16 bits."""

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.model.forms import Exact, IndexForm, TurnedFp4, as_held
from dsv4_tp.model.indexer import Asked

ROWS, HEADS, HEAD, PICKED = 8192, 64, 128, 512


@pytest.mark.parametrize("form", [Exact(), TurnedFp4(HEAD)], ids=["exact", "trained"])
def test_heads_are_scored_in_the_rows_dtype_and_nearly_the_same_rows_are_picked(form: IndexForm):
    q, rows, weights = _asked(form)
    half = Asked(q, weights, form)
    whole = Asked(q.astype(mx.float32), weights, form)
    held = form.encode(rows)
    assert form.products(q[:, 0], held).dtype == mx.bfloat16  # no copy of all rows in float32
    assert half.weighed(held).dtype == mx.float32
    exact = held if isinstance(form, TurnedFp4) else held.astype(mx.float32)
    scores, expected = (np.array(each)[0, 0] for each in (half.weighed(held), whole.weighed(exact)))
    assert np.abs(scores - expected).max() < 0.05 * expected.std()
    picked, best = (set(np.argsort(each)[-PICKED:].tolist()) for each in (scores, expected))
    assert len(picked & best) >= 0.99 * PICKED


def _asked(form: IndexForm) -> tuple[mx.array, mx.array, mx.array]:
    """Queries [1, 1, H, head] and rows [1, T, head] in bfloat16, weights [1, 1, H, 1]."""
    noise = [mx.random.normal(shape, key=mx.random.key(seed)) for seed, shape in enumerate(_SHAPES)]
    q, rows, weights = noise
    return as_held(form, q.astype(mx.bfloat16)), rows.astype(mx.bfloat16), weights


_SHAPES = ((1, 1, HEADS, HEAD), (1, ROWS, HEAD), (1, 1, HEADS, 1))
