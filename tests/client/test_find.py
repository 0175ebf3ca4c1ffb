"""A running cluster is found by its name, or as the only one."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from dsv4_tp.client import find_cluster
from dsv4_tp.errors import ConfigError
from dsv4_tp.rpc.registry import registered


@contextmanager
def running(folder: Path, *names: str) -> Generator[None]:
    """Clusters of these names, at 127.0.0.1:1 and on."""
    with ExitStack() as stack:
        for port, name in enumerate(names, start=1):
            stack.enter_context(registered(folder, name=name, address=f"127.0.0.1:{port}"))
        yield


def test_the_only_one_needs_no_name(tmp_path: Path):
    with running(tmp_path, "lab"):
        assert find_cluster(tmp_path, None) == find_cluster(tmp_path, "lab") == "127.0.0.1:1"


def test_several_must_be_told_apart(tmp_path: Path):
    with running(tmp_path, "a", "b"):
        with pytest.raises(ConfigError, match=r"several clusters are running \(a, b\).*--name"):
            find_cluster(tmp_path, None)
        assert find_cluster(tmp_path, "b") == "127.0.0.1:2"


def test_none_is_an_error_that_says_what_to_do(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"no cluster is running.*dsv4-tp launch"):
        find_cluster(tmp_path, None)


def test_another_s_name_is_an_error_that_says_which_there_are(tmp_path: Path):
    with (
        running(tmp_path, "a"),
        pytest.raises(ConfigError, match=r"no cluster called x .*running: a"),
    ):
        find_cluster(tmp_path, "x")
