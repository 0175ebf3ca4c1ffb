import json
import os

import pytest

from dsv4_tp.errors import PreflightError
from dsv4_tp.rpc.registry import registered, running


def test_a_cluster_is_found_while_it_runs(tmp_path):
    with registered(tmp_path, name="big", address="127.0.0.1:1") as entry:
        assert running(tmp_path) == (entry,)
        assert (entry.name, entry.address, entry.pid) == ("big", "127.0.0.1:1", os.getpid())
        assert (tmp_path / "big.json").stat().st_mode & 0o777 == 0o600
    assert running(tmp_path) == ()
    assert list(tmp_path.iterdir()) == []


def test_clusters_without_a_name_take_free_ones(tmp_path):
    with (
        registered(tmp_path, name=None, address="a:1") as first,
        registered(tmp_path, name=None, address="b:2") as second,
    ):
        assert (first.name, second.name) == ("dsv4", "dsv4-2")
        assert running(tmp_path) == (first, second)


def test_a_name_is_given_once(tmp_path):
    with (
        registered(tmp_path, name="big", address="a:1"),
        pytest.raises(PreflightError, match="dsv4-tp down --name big"),
        registered(tmp_path, name="big", address="b:2"),
    ):
        pass


@pytest.mark.parametrize("change", [{"pid": 2**22 + 1}, {"started_s": 1.0}])
def test_the_file_of_a_dead_cluster_counts_as_none(tmp_path, change):
    with registered(tmp_path, name="big", address="a:1"):
        words = json.loads((tmp_path / "big.json").read_text())
    (tmp_path / "big.json").write_text(json.dumps(words | change))
    assert running(tmp_path) == ()
    with registered(tmp_path, name="big", address="b:2") as entry:
        assert running(tmp_path) == (entry,)


def test_other_files_are_not_clusters(tmp_path):
    (tmp_path / "notes.json").write_text("[1, 2]")
    (tmp_path / "half.json").write_text('{"name": "x"')
    assert running(tmp_path) == ()
