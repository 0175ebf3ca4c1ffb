"""The yield shim: built where it can be, and still a faithful recv()."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dsv4_tp import native

needs_compiler = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler"
)

CHILD = """
import socket
ours, theirs = socket.socketpair()
ours.setblocking(False)
try:
    ours.recv(8)
except BlockingIOError as error:
    print(error.errno)
theirs.send(b"a message")
print(ours.recv(8, socket.MSG_PEEK), ours.recv(64))
theirs.close()
print(ours.recv(8))
"""


@pytest.fixture
def empty_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    return tmp_path


def test_no_shim_before_it_is_built(empty_prefix: Path):
    assert native.shim_path() is None


def test_without_a_compiler_nothing_is_built(empty_prefix: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(empty_prefix))
    assert native.build_shim() is None
    assert list(empty_prefix.iterdir()) == []


@needs_compiler
def test_the_shim_is_recv(empty_prefix: Path):
    built = native.build_shim()
    assert built == native.shim_path()
    command = [sys.executable, "-c", CHILD]
    plain = subprocess.run(command, capture_output=True, check=True, timeout=30, text=True)
    preloaded = subprocess.run(
        command,
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
        env=os.environ | {"LD_PRELOAD": str(built)},
    )
    assert preloaded.stderr == ""
    assert preloaded.stdout == plain.stdout
    assert "b'a messag' b'a message'" in preloaded.stdout
