"""The soak of the caches, a little of it; and each planted mistake fails it."""

from weakref import WeakKeyDictionary

import mlx.core as mx
import pytest

from dsv4_tp.model.rows import Ring, Store
from dsv4_tp.rules import REWIND, reach
from tests.soak.cache_schedules import TOLERANCE, arrays_off, distance, run_case

QUICK = (1, 6, 7, 10, 12, 16)


@pytest.mark.parametrize("case", QUICK)
def test_a_case(case: int) -> None:
    assert run_case(case)["outcome"] == "equal"


def assert_seen(schedule: list[tuple]) -> None:
    assert arrays_off([30], schedule, 0) > 0
    assert distance([30], schedule, 0) > 100 * TOLERANCE


def test_a_lost_overlap_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Ring.read

    def forgetful(self: Ring, stop: int, count: int) -> mx.array | None:
        rows = read(self, stop, count)
        return mx.zeros_like(rows) if rows is not None and self.size == reach(4) + REWIND else rows

    monkeypatch.setattr(Ring, "read", forgetful)
    assert_seen([("append", 40)])


def test_a_snapshot_one_row_short_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Store.copy
    monkeypatch.setattr(Store, "copy", lambda self, count: copy(self, count - 1))
    assert_seen([("save",), ("append", 3), ("restore", 0), ("append", 40)])


def test_a_stale_pool_row_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that was written once is not written again."""
    write, known = Store.write, WeakKeyDictionary()

    def stubborn(self: Store, first: int, rows: mx.array) -> None:
        new = max(0, known.get(self, 0) - first)
        known[self] = first + rows.shape[1]
        if new < rows.shape[1]:
            write(self, first + new, rows[:, new:])

    monkeypatch.setattr(Store, "write", stubborn)
    assert_seen([("append", 10), ("rewind", [10]), ("append", 40)])
