"""Events: one line each, that a person and a script can read."""

import re

import pytest

from dsv4_tp.log import log


def test_an_event_is_one_line_of_words(capsys: pytest.CaptureFixture[str]):
    log("rank-lost", rank=1, after_s=0.25, cause="killed by SIGKILL", note="", line="a\nb")
    out, err = capsys.readouterr()
    assert out == ""
    time, words = err.split(" ", 1)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", time)
    expected = "rank-lost rank=1 after_s=0.250 cause='killed by SIGKILL' note='' line='a\\nb'\n"
    assert words == expected
