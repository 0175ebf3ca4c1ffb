"""The suite holds runs to what is published, and keeps them."""

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import planned, runs, suite
from benchmarks.runs import Run

RUN = Run("2026-01-02T030405Z", "linux-x86_64-2", "abc1234", "1.2.3", {"cache": {"a": {"b": 7}}})


def test_all_parts_are_published():
    assert runs.published().keys() == suite.PARTS.keys()


@pytest.mark.parametrize("part", ["bytes", "memory", "load", "cache"])
def test_nothing_is_more_than_was_published(part: str):
    """Operations and what is sent are held to it in test_counts.py."""
    found, published = {part: suite.PARTS[part]()}, runs.published()
    assert runs.flat(found).keys() == runs.flat({part: published[part]}).keys()
    assert runs.excess(found, published) == []


def test_what_is_more_by_more_than_is_allowed_is_named():
    published = {"part": {"what": {"a": 100, "b": 100, "c": 0, "gone": 1}}}
    found = {"part": {"what": {"a": 102, "b": 103, "c": 1, "new": 9}}}
    assert runs.excess(found, published) == [
        "part.what.b: 103, published 100",
        "part.what.c: 1, published 0",
    ]


def test_what_is_no_longer_counted_is_named():
    published = {"part": {"what": {"a": 1, "gone": 1}}, "other": {"what": {"a": 1}}}
    assert runs.missing({"part": {"what": {"a": 1}}}, published) == [
        "part.what.gone: no longer counted"
    ]


def test_a_worse_plan_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Of a split that is as uneven as 5 to 4."""
    shared = planned.shared
    uneven = {2: [5, 4], 4: [5, 4, 4, 4], 8: [5, *[4] * 7]}
    monkeypatch.setattr(
        planned, "shared", lambda s, f, w, e: shared(s, f, uneven.get(len(w), w), e)
    )
    found = {"bytes": planned.ledgers(), "memory": planned.memory()}
    names = [line.split(":")[0] for line in runs.excess(found, runs.published())]
    assert {"bytes.flash on 2.all", "memory.flash on 4.weights"} <= set(names)


def test_runs_are_kept_and_their_lines_have_the_same_columns(tmp_path: Path):
    later = replace(RUN, date="later", figures={"cache": {"a": {"b": 6, "new": 1}}})
    files = [runs.keep(run, tmp_path) for run in (RUN, later)]
    assert [json.loads(file.read_text())["date"] for file in files] == [RUN.date, "later"]
    with (tmp_path / "machines" / "linux-x86_64-2.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["cache.a.b"] for line in lines] == ["7", "6"]
    assert [line["cache.a.new"] for line in lines] == ["", "1"]
    assert lines[0]["commit"] == "abc1234"


def test_machines_are_named_by_what_they_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs.os, "cpu_count", lambda: 32)
    monkeypatch.setattr(runs.platform, "machine", lambda: "x86_64")
    assert runs.machine("Darwin", "Apple M3 Ultra") == "darwin-apple-m3-ultra-32"
    assert runs.machine("Linux", "Some(R) Processor") == "linux-x86_64-32"


def test_some_parts_are_looked_at_and_not_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr(sys, "argv", ["suite", "--only", "cache", "--out", str(tmp_path)])
    suite.main()
    assert "exact, flash" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(runs, "published", lambda: {"cache": {"exact": {"flash": 1.0}}})
    with pytest.raises(SystemExit, match=r"cache\.exact\.flash: 6908, published 1$"):
        suite.main()
