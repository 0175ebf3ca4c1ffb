import fcntl
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from threading import Event

import psutil
import pytest

from dsv4_tp.errors import PreflightError
from dsv4_tp.rpc.lives import is_alive
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


def test_a_name_is_held_by_who_lives_whatever_its_number_and_the_clock_say(tmp_path):
    """As another machine sees the state directory that it shares with this one."""
    file = tmp_path / "big.json"
    with registered(tmp_path, name="big", address="a:1") as entry:
        file.write_text(json.dumps(asdict(entry) | {"pid": 2**22 + 1}))
        with (
            pytest.raises(PreflightError, match="is running"),
            registered(tmp_path, name="big", address="b:2"),
        ):
            pass


def test_a_clock_that_was_set_ends_no_process():
    started_s = psutil.Process().create_time()
    assert is_alive(os.getpid(), started_s + 5)
    assert not is_alive(os.getpid(), started_s + 60)


def test_other_files_are_not_clusters(tmp_path):
    (tmp_path / "notes.json").write_text("[1, 2]")
    (tmp_path / "half.json").write_text('{"name": "x"')
    assert running(tmp_path) == ()


def test_a_file_is_never_seen_half_written(tmp_path):
    """A reader that looks all the time finds a whole entry or no file."""
    file = tmp_path / "big.json"

    def watch():
        while not ended.is_set():
            with suppress(FileNotFoundError):
                assert json.loads(file.read_text())["name"] == "big"

    ended = Event()
    with ThreadPoolExecutor() as pool:
        watchers = [pool.submit(watch) for _ in range(2)]
        for _ in range(300):
            with registered(tmp_path, name="big", address="a:1"):
                pass
        ended.set()
        for watcher in watchers:
            watcher.result()


def test_a_folder_held_by_another_launch_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("dsv4_tp.rpc.registry._LOCK_DEADLINE_S", 0.05)
    handle = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with (
        pytest.raises(PreflightError, match="another launch"),
        registered(tmp_path, name="big", address="a:1"),
    ):
        pass
    os.close(handle)


def test_of_many_that_start_at_once_each_has_a_name_of_its_own(tmp_path):
    (tmp_path / "dsv4.json").write_text('{"name": "dsv4"')
    starters = [registered(tmp_path, name=None, address=f"a:{port}") for port in range(1, 9)]
    with ThreadPoolExecutor(len(starters)) as pool:
        entries = list(pool.map(lambda starter: starter.__enter__(), starters))
    assert len({entry.name for entry in entries}) == len(starters)
    assert set(running(tmp_path)) == set(entries)
