"""How far things are, on a terminal and elsewhere."""

import re
from types import SimpleNamespace

import pytest

from dsv4_tp.cli import bars as module
from dsv4_tp.cli.bars import Bars, Lines
from dsv4_tp.cli.main import run
from dsv4_tp.coordinator.cluster import Phase
from dsv4_tp.core import RankReport
from dsv4_tp.launcher.report import Report


def test_bars_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with Bars() as bars:
        bars.show("mac-a", 500, 1000)
        bars.show("mac-b", 200, 1000)
        bars.note("rank 0 is there")
        bars.show("mac-a", 1000, 1000)
    raw = capsys.readouterr().err
    before, _, after = plain(raw).partition("rank 0 is there\n")
    assert all(each in before for each in ("mac-a", "0.5/1.0 kB", "mac-b", "0.2/1.0 kB"))
    assert "1.0/1.0 kB" in after
    assert "mac-b" not in after
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 2, "the cursor is there again"


def plain(text):
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text)


def test_lines_are_few(monkeypatch, capsys):
    now_s = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    lines = Lines()
    for at_s, done in ((0, 1), (4.9, 2), (5, 3), (6, 4), (10, 5)):
        now_s[0] = 100.0 + at_s
        lines.show("mac-a", done * 10**8, 10**9)
    assert capsys.readouterr().err == ("mac-a: 30 % of 1.0 GB sent\nmac-a: 50 % of 1.0 GB sent\n")


def states():
    """A cluster that starts, loads, and is ready."""
    yield Phase.JOINING, 0, 0
    yield Phase.LOADING, 0, 0
    for loaded in (1, 2, 11, 20):
        yield Phase.LOADING, loaded, 20
    yield Phase.READY, 20, 20


@pytest.mark.parametrize("watched", [False, True])
def test_a_launch_says_how_far_it_is_once(watched):
    lines, seen = [], []
    coordinator = SimpleNamespace()
    report = Report(coordinator, lines.append, (lambda *far: seen.append(far)) if watched else None)
    for phase, loaded, total in states():
        one = RankReport(0, "load", bytes_loaded=loaded, bytes_total=total)
        ranks = {0: SimpleNamespace(report=one)}
        coordinator.state = SimpleNamespace(phase=phase, ranks=ranks, notes=())
        report.look()
    tenths = [] if watched else ["loading 0 %", "loading 10 %", "loading 50 %", "loading 100 %"]
    assert lines == ["joining", "loading", *tenths, "ready"]
    assert seen == ([(1, 20), (2, 20), (11, 20), (20, 20)] if watched else [])


def test_where_nobody_looks_there_is_no_bar(tmp_path, monkeypatch, capsys):
    out = tmp_path / "set"
    assert run(["shard", "--model", "demo", "--ranks", "2", "--out", str(out)]) == 0
    err = capsys.readouterr().err
    assert err.endswith(f"; launch it with --model {out}\n")
    assert err.count("\n") == 1
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert run(["shard", "--model", "demo", "--ranks", "2", "--out", str(tmp_path / "other")]) == 0
    assert " MB" in plain(capsys.readouterr().err)
