"""What options say of OpenAI's API, over what the file says."""

from pathlib import Path

import pytest

from dsv4_tp.cli.http_options import Door
from dsv4_tp.config import Http
from dsv4_tp.config.cluster import MetricsAlias

FILE = Http("10.0.0.1", 9, "/keys", ("https://a.example",), None)


def test_what_is_not_said_stays():
    assert Door(None, None, None).applied(FILE) == FILE
    assert Door(None, None, None).given == []


def test_what_is_said_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    door = Door("0.0.0.0:8001", Path("mine"), "vllm")
    keys, origins = str(tmp_path / "mine"), FILE.origins
    assert door.applied(FILE) == Http("0.0.0.0", 8001, keys, origins, MetricsAlias.VLLM)
    assert door.given == ["--http", "--api-keys", "--metrics-alias"]
