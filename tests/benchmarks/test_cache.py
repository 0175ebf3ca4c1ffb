"""The figures of contexts, on small ones."""

import mlx.core as mx
import pytest

from benchmarks.cache import decode, layers, prefill, sizes
from dsv4_tp.core import DType
from dsv4_tp.model import attention
from dsv4_tp.model.context import Context
from dsv4_tp.model.rows import Ring
from dsv4_tp.plan import cache_bytes
from tests.specs import FLASH


@pytest.mark.slow
@pytest.mark.parametrize("model", ["flash", "pro"])
def test_a_token_costs_what_the_theory_says(model: str):
    size = sizes.size_of(model, large=32 << 10, most=32 << 10)
    assert 0.95 < size.over_theory < 1.05
    assert size.growth_peak < 1.1


def test_a_filled_memory_is_what_the_planner_counts():
    ratios = FLASH.compress_ratios
    held = {ratio: layers.filled(FLASH, ratio, 3000).nbytes for ratio in set(ratios)}
    assert sum(held[ratio] for ratio in ratios) == cache_bytes(FLASH, 3000, DType.BFLOAT16)


@pytest.mark.slow
def test_a_step_has_the_same_graph_at_every_context():
    for ratio in (0, 128):
        steps = decode.decodes("flash", ratio, (512, 2048))
        assert steps[1].operations == steps[0].operations
        assert steps[0].time_ratio == steps[0].row_ratio == steps[0].byte_ratio == 1
        assert (steps[1].row_ratio > 1) == bool(ratio)
        assert 1 <= steps[1].byte_ratio <= steps[1].row_ratio


@pytest.fixture
def short_look(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode, "SETTLED", 16)
    monkeypatch.setattr(decode, "APART", 8)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", layers.RATIOS)
def test_steps_leave_nothing(ratio: int, short_look: None):
    found = decode.endurance(ratio, 80, context=2432)
    assert found.operations[1] <= found.operations[0]
    assert (found.left_bytes, found.left_arrays, found.waiting) == (0, 0, 0)


@pytest.mark.slow
def test_rows_that_are_kept_apart_are_seen(short_look: None, monkeypatch: pytest.MonkeyPatch):
    """As a list of pieces would be, one for each step."""
    kept, write = [], Ring.write

    def hoarding(self: Ring, start: int, rows: mx.array) -> None:
        kept.append(rows + 0)
        write(self, start, rows)

    monkeypatch.setattr(Ring, "write", hoarding)
    found = decode.endurance(0, 80, context=256)
    assert found.left_arrays >= 32


@pytest.mark.slow
def test_a_memory_that_is_never_evaluated_is_seen(
    short_look: None, monkeypatch: pytest.MonkeyPatch
):
    state = decode.LayerCache.state
    lazy = property(lambda self: [array + 0 for array in state.fget(self)])
    monkeypatch.setattr(decode.LayerCache, "state", lazy)
    assert decode.endurance(0, 80, context=256).waiting > 0


@pytest.mark.slow
@pytest.mark.parametrize("ratio", layers.RATIOS)
def test_a_chunk_keeps_to_its_bound(ratio: int):
    found = prefill.prefill(ratio, 256, 4096)
    assert found.peak_bytes <= found.bound_bytes <= 3 * found.peak_bytes


@pytest.mark.slow
def test_all_queries_at_once_do_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(attention, "runs", lambda length, *_: [(0, length)])
    found = prefill.prefill(4, 256, 4096)
    assert found.peak_bytes > found.bound_bytes


@pytest.mark.slow
def test_no_run_is_longer_than_the_window(monkeypatch: pytest.MonkeyPatch):
    """Or queries are compared with window rows that none of them sees."""
    read, lengths = Context.read_all, []

    def noted(self: Context, q: mx.array, *rest: object) -> mx.array:
        lengths.append(q.shape[1])
        return read(self, q, *rest)

    monkeypatch.setattr(Context, "read_all", noted)
    prefill.prefill(0, 300, 600)
    assert lengths == [128, 128, 44]
