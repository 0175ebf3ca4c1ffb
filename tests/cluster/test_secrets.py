"""The keys of a real launch, looked for wherever they should not be."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster.secrets_seen import MARK, in_files, in_processes

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc"),
]


def test_keys_are_in_memory_but_for_one_file(standins):
    cluster = standins().wait_ready(ranks=2)
    folders = [cluster.state_dir, *map(folder_of, cluster.agents())]
    assert list(cluster.state_dir.glob("launches/*/*/agent.0"))
    assert in_processes(cluster.pids) == []
    assert in_files(*folders) == {"dsv4.pem": "0o600"}
    status = cluster.run("status", "--json").stdout
    cluster.run("down")
    said = [status, *cluster.finish()[1:]]
    assert not any(MARK.decode() in words for words in said)
    assert in_files(cluster.state_dir) == {"dsv4.pem": "0o600"}  # for the next launch


@pytest.mark.parametrize("page", ["cmdline", "environ"])
def test_a_key_that_a_process_shows_is_found(page):
    word, env = (MARK, {}) if page == "cmdline" else (b"", {b"KEY": MARK})
    command = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()", word]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environb | env, **pipes) as careless:
        careless.stdout.readline()  # from here on its pages are its own
        assert [found.name for found in in_processes([careless.pid])] == [page]


def test_a_key_in_a_file_is_found(tmp_path):
    (tmp_path / "log").write_bytes(b"I am " + MARK)
    (tmp_path / "log").chmod(0o644)
    assert in_files(tmp_path) == {"log": "0o644"}


def folder_of(agent):
    """An agent's own directory, where its log is."""
    return Path(os.readlink(f"/proc/{agent.pid}/fd/1")).parent
