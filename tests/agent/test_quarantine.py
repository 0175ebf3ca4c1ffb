"""What one agent finds out about a host, the next one knows: until a boot, or the end of a pid."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from dsv4_tp.agent import boot, quarantine
from dsv4_tp.agent.boot import Boot
from dsv4_tp.agent.quarantine import Cause, Note, added, parsed, standing

BOOT_S = 1_700_000_000.0
BOOT = Boot(BOOT_S)
MEMORY = Cause("11 GB did not come back; reboot it")
ALIVE = Cause("pid 77 outlived SIGKILL; reboot it", 77, BOOT_S + 100)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    return tmp_path / "quarantine.note"


def created(**at_s):
    return lambda pid: at_s.get(f"p{pid}")


@pytest.mark.parametrize("moved_s", [-8, 0, 8])
def test_a_reboot_ends_it_and_a_clock_that_was_set_does_not(moved_s):
    note = Note(BOOT, (MEMORY,))
    assert standing(note, Boot(BOOT_S + moved_s), created()) == MEMORY
    assert standing(note, Boot(BOOT_S + 60), created()) is None


def test_a_boot_that_has_a_name_is_known_by_it_however_far_the_clock_was_set():
    note, later = Note(Boot(BOOT_S, "one"), (ALIVE,)), Boot(BOOT_S + 3600, "one")
    assert standing(note, later, created(p77=ALIVE.created_s)) == ALIVE, "macOS: boots move alone"
    assert standing(note, later, created(p77=ALIVE.created_s + 3600)) == ALIVE, "Linux: all move"
    assert standing(note, Boot(BOOT_S, "two"), created(p77=ALIVE.created_s)) is None
    assert boot.this_boot() == boot.this_boot()
    assert len(boot.this_boot().id) == 36


def test_it_ends_with_the_process_if_that_was_all():
    note = Note(BOOT, (ALIVE,))
    assert standing(note, BOOT, created(p77=BOOT_S + 103)) == ALIVE
    assert standing(note, BOOT, created()) is None
    assert standing(note, BOOT, created(p77=BOOT_S + 900)) is None, "another one has its number"
    both = added(note, [MEMORY], Boot(BOOT_S + 2))
    assert standing(both, BOOT, created()) == MEMORY
    assert standing(both, BOOT, created(p77=BOOT_S + 100)) == MEMORY, "that will not pass"


def test_what_was_before_a_boot_is_forgotten():
    later = Boot(BOOT_S + 600)
    assert added(Note(BOOT, (MEMORY,)), [ALIVE], later) == Note(later, (ALIVE,))


def test_the_next_agent_is_told(file):
    assert quarantine.known() == ""
    with subprocess.Popen(["sleep", "60"]) as process:
        quarantine.keep("pid 1 of rank 0 outlived SIGKILL; reboot it", process.pid)
        words = f"pid 1 of rank 0 outlived SIGKILL; reboot it, or remove {file} if that is wrong"
        assert quarantine.known() == words
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert quarantine.known() == "", "what nobody has waited for holds nothing"
    quarantine.keep(MEMORY.reason)
    assert quarantine.known().startswith(MEMORY.reason)
    assert parsed(file.read_text()).boot == boot.this_boot()
    assert [each.name for each in file.parent.iterdir()] == [file.name]


def test_what_a_guard_has_killed_is_written_down_until_it_is_gone(file):
    with subprocess.Popen(["sleep", "60"]) as there, subprocess.Popen(["true"]) as gone:
        os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)
        pids = {there.pid, gone.pid}
        assert quarantine.keep_living(pids, killed_s=psutil.Process().create_time()) == ()
        killed_s = time.time()
        assert quarantine.keep_living(pids, killed_s=killed_s) == (there.pid,)
        words = f"pid {there.pid} outlived SIGKILL; reboot it"
        assert quarantine.known().startswith(words), "at once"
        quarantine.drop_gone([there.pid], killed_s=killed_s, within_s=0.2)
        (cause,) = parsed(file.read_text()).causes
        assert (cause.pid, cause.reason) == (there.pid, words)
        quarantine.keep(MEMORY.reason)
        there.kill()
        quarantine.drop_gone([there.pid], killed_s=killed_s, within_s=9)
    assert parsed(file.read_text()).causes == (MEMORY,)


def test_a_process_that_goes_in_time_spoils_nothing(file, monkeypatch):
    looks = iter([BOOT_S, BOOT_S])  # then it is gone
    monkeypatch.setattr(quarantine, "created", lambda pid: next(looks, None))
    monkeypatch.setattr(quarantine, "_LOOK_S", 0)
    quarantine.keep("pid 77 outlived SIGKILL; reboot it", 77)
    assert quarantine.settled() == ""
    monkeypatch.setattr(quarantine, "created", lambda pid: BOOT_S)
    monkeypatch.setattr(quarantine, "_PATIENCE_S", 0.05)
    assert quarantine.settled().startswith("pid 77 outlived SIGKILL"), "one that does not go"
    monkeypatch.setattr(quarantine, "_PATIENCE_S", 600)
    quarantine.keep(MEMORY.reason)
    assert quarantine.settled().startswith(MEMORY.reason), "nothing to wait for"


# Its first thread ends, and another one does not.
HEADLESS = """
import ctypes, threading
threading.Thread(target=threading.Event().wait).start()
print(flush=True)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="macOS ends all threads before it says so")
def test_a_process_is_there_as_long_as_one_of_its_threads():
    command = [sys.executable, "-S", "-c", HEADLESS]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        ends_s = time.monotonic() + 10
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < ends_s
        assert quarantine.created(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert quarantine.created(process.pid) is None


def test_two_writers_lose_nothing_of_each_other(file, monkeypatch):
    read = quarantine._read

    def slowly(file):
        note = read(file)
        time.sleep(0.02)
        return note

    monkeypatch.setattr(quarantine, "_read", slowly)
    causes = [f"cause {number}" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(quarantine.keep, causes)]
    assert {cause.reason for cause in parsed(file.read_text()).causes} == {*causes}


def test_a_writer_that_is_stopped_is_not_waited_for_for_ever(file, monkeypatch):
    monkeypatch.setattr(quarantine, "_ALONE_S", 0.01)
    with quarantine._alone(file.parent):
        quarantine.keep(MEMORY.reason)
    assert quarantine.known().startswith(MEMORY.reason)


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "7", "{}", '{"boot_s": "x", "causes": []}', '{"boot_s": 1, "causes": 3}'),
        '{"boot_s": 1, "causes": [{"reason": "r", "pid": "x", "created_s": 0}]}',
        '{"boot_s": 1, "causes": [{"reason": "r", "pid": -5, "created_s": 0}]}',
        '{"boot_s": 1, "causes": ["r"]}',
        "\udcff",
    ],
)
def test_what_nobody_has_written_is_ignored_with_a_word(file, capsys, text):
    file.write_bytes(text.encode(errors="surrogateescape"))
    assert quarantine.known() == ""
    assert "quarantine-ignored" in capsys.readouterr().err
    quarantine.keep(MEMORY.reason)
    assert json.loads(file.read_text())["causes"][0]["reason"] == MEMORY.reason


def test_a_disk_that_takes_nothing_costs_a_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "file/below"))
    quarantine.keep(MEMORY.reason)
    assert quarantine.known() == ""
    told = capsys.readouterr().err
    assert "quarantine-not-kept" in told
    assert "quarantine-unknown" in told
