"""The guard as a real process."""

import signal
import subprocess
import sys
import time

import pytest

from dsv4_tp.agent import guard as guards
from dsv4_tp.agent import quarantine
from dsv4_tp.agent.guard import Guard

# Holds a guard as an agent does, and sleeps: argv is its directory, what it watches, a silence.
HOLDER = """
import sys, time
from pathlib import Path
from dsv4_tp.agent.guard import Guard
guard = Guard(Path(sys.argv.pop(1)))
guard.watch(int(sys.argv[1]))
if sys.argv[2] != "none":
    guard.beat(float(sys.argv[2]))
print("watching", flush=True)
time.sleep(600)
"""


@pytest.fixture
def sleeper():
    process = subprocess.Popen(["sleep", "600"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def holder(folder, sleeper, silence):
    command = [sys.executable, "-c", HOLDER, str(folder), str(sleeper.pid), str(silence)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "watching\n"
    return process


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "log").write_text("words")
    return tmp_path / "agent"


def wait_until(holds):
    ends = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_a_killed_agent_takes_what_it_started_with_it(folder, sleeper):
    with holder(folder, sleeper, "none") as agent:
        agent.kill()
    assert sleeper.wait(timeout=10) == -signal.SIGKILL
    wait_until(lambda: not folder.exists())


def test_a_silent_agent_loses_what_it_started(folder, sleeper):
    with holder(folder, sleeper, 0.5) as agent:
        assert sleeper.wait(timeout=10) == -signal.SIGKILL
        agent.kill()


def test_what_is_forgotten_is_left_alone(folder, sleeper):
    guard = Guard(folder)
    guard.watch(sleeper.pid)
    guard.forget(sleeper.pid)
    guard.close()
    assert sleeper.poll() is None


def test_a_guard_that_died_is_replaced(folder, sleeper):
    guard = Guard(folder)
    guard.watch(sleeper.pid)
    guard._process.kill()
    guard._process.wait()
    guard.beat(60)
    assert sleeper.poll() is None
    guard.close()
    assert sleeper.wait(timeout=10) == -signal.SIGKILL


def test_what_is_not_gone_yet_is_written_down_before_it_is_waited_for(
    tmp_path, monkeypatch, folder, sleeper
):
    def wait(pids, **times):
        known.append(quarantine.known())

    known = []
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(guards.os, "killpg", lambda pid, number: None)
    monkeypatch.setattr(quarantine, "drop_gone", wait)
    guards._Charge({sleeper.pid}, folder=folder).clear()
    (words,) = known
    assert words.startswith(f"pid {sleeper.pid} outlived SIGKILL")
    assert not folder.exists()
