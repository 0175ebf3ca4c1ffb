"""What serving costs is told as it was measured."""

import pytest

from benchmarks import serving
from benchmarks.serving import Found, Overhead, Ratio


def test_a_ratio_is_the_middle_of_pairs_and_says_how_far_they_lie_apart():
    assert serving.ratio("it", [3.0, 1.0, 8.0]) == Ratio("it", 3.0, 1.0, 8.0)


def test_whoever_begins_ours_is_over_theirs(monkeypatch: pytest.MonkeyPatch):
    took = {"ours": (1.0, 4.0, 9), "theirs": (2.0, 5.0, 9)}
    asked: list[str] = []

    def stream(who: str, prompt: str, tokens: int) -> tuple[float, float, int]:
        asked.append(who)
        return took[who]

    monkeypatch.setattr(serving, "_stream", stream)
    assert [serving._pair("ours", "theirs", number) for number in (0, 1)] == [(0.5, 0.8)] * 2
    assert asked == ["theirs", "ours", "ours", "theirs"]


def test_the_table_has_a_line_for_each_figure():
    found = Found(
        0.015,
        [Overhead(1, 800.0, 200.0, 0.2, 100)],
        [Ratio("first piece", 0.5, 0.4, 0.6)],
        [Ratio("dsv4-tp --help", 2.0, 1.9, 2.1)],
    )
    idle, _, overhead, server, start = serving.table(found).splitlines()
    assert idle == "idle: 1.50% of a core"
    assert overhead.split() == ["1", "800", "200", "20.0%"]
    assert server == "first piece: 0.50 (0.40 to 0.60)"
    assert start == "dsv4-tp --help: 2.00 (1.90 to 2.10)"
