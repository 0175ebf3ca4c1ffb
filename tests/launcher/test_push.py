"""Weights sent to agents that are real processes of this machine, and what can go wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from dsv4_tp import demo
from dsv4_tp.prepared import rank_folder, read_digests
from tests.prepared.sets import prepare

RANKS = 2
WAIT_S = 60.0
SHARD = "model-00002-of-00002.safetensors"

# The interpreter of a host whose disk is slow, or fails behind so many bytes of a file.
PYTHON = """#!{python}
import sys, time
from dsv4_tp.cli.main import run
from dsv4_tp.prepared.sink import Writing

write = Writing.write

def odd_write(self, data):
    time.sleep({pause_s})
    if self.nbytes + len(data) > {most_bytes}:
        raise OSError(28, "No space left on device")
    write(self, data)

Writing.write = odd_write
sys.exit(run(sys.argv[3:]))
"""


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The set as it is made locally."""
    return prepare(demo.path(), tmp_path_factory.mktemp("local") / "set", [1] * RANKS)


@pytest.fixture
def push(tmp_path):
    """Starts `dsv4-tp push` to two ranks on this host; nothing of it is left at the end."""
    started = []

    def push(*, model="demo", out=tmp_path / "set", pause_s=0.0, most_bytes=1 << 40, weight=1):
        python = tmp_path / "python"
        python.write_text(
            PYTHON.format(python=sys.executable, pause_s=pause_s, most_bytes=most_bytes)
        )
        python.chmod(0o755)
        config = tmp_path / "cluster.yaml"
        host = {"name": "localhost", "python": str(python)}
        hosts = [host, host | {"weight": weight}]
        model = {"path": str(model)}
        config.write_text(json.dumps({"version": 1, "model": model, "hosts": hosts}))
        options = ["-f", str(config), "--out", str(out), "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "dsv4_tp", "push", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"DSV4TP_STATE_DIR": str(tmp_path / "state")},
        )
        started.append(psutil.Process(process.pid))
        return process

    family = []
    push.family = lambda process: (
        family.extend(children := psutil.Process(process.pid).children(recursive=True)) or children
    )
    yield push
    for process in (*started, *family):
        if process.is_running():
            process.kill()


def finish(process):
    out, err = process.communicate(timeout=WAIT_S)
    return process.returncode, out, err


def told(process):
    code, out, err = finish(process)
    assert code == 0, err
    (host,) = json.loads(out)["hosts"]
    return host


def whole(out):
    """The finished files with their digests and inodes."""
    return {
        (rank, name): (file.sha256, (rank_folder(out, rank) / name).stat().st_ino)
        for rank in range(RANKS)
        for name, file in read_digests(rank_folder(out, rank)).items()
    }


def digests(out):
    return {key: digest for key, (digest, _) in whole(out).items()}


def nbytes(out, files):
    return sum((rank_folder(out, rank) / name).stat().st_size for rank, name in files)


def wait_for_files(process, out, *, count):
    ends = time.monotonic() + WAIT_S
    while len(whole(out)) < count:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < ends
        time.sleep(0.01)


def agent_of(family):
    (agent,) = [process for process in family if "--port=0" in process.cmdline()]
    return agent


def tree(folder):
    """All files by name with their bytes, locks apart."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.name != ".lock"]
    return {file.relative_to(folder): file.read_bytes() for file in files}


def test_a_push_makes_what_shard_makes(push, tmp_path, pair):
    first = told(push())
    assert (first["ranks"], first["held_bytes"]) == ([0, 1], 0)
    assert first["sent_bytes"] == nbytes(pair, digests(pair))
    assert tree(tmp_path / "set").keys() == tree(pair).keys()
    assert digests(tmp_path / "set") == digests(pair)
    for name, data in tree(pair).items():
        if name.name != "digests.jsonl":
            assert tree(tmp_path / "set")[name] == data, name
    again = told(push())
    assert (again["held_bytes"], again["sent_bytes"]) == (first["sent_bytes"], 0)


def test_a_set_that_is_here_is_sent_as_it_is(push, tmp_path, pair):
    assert told(push(model=pair))["sent_bytes"] == nbytes(pair, digests(pair))
    assert digests(tmp_path / "set") == digests(pair)


@pytest.mark.parametrize("victim", [pytest.param("pusher", marks=pytest.mark.slow), "agent"])
def test_what_is_killed_is_gone_on_with(push, tmp_path, pair, victim):
    out = tmp_path / "set"
    process = push(pause_s=0.3)
    wait_for_files(process, out, count=3)
    family = push.family(process)
    (process if victim == "pusher" else agent_of(family)).send_signal(signal.SIGKILL)
    code, _, err = finish(process)
    if victim == "agent":
        assert code == 1
        assert "localhost: the connection to its agent broke; repeat the command, it goes" in err
    before = whole(out)
    assert 3 <= len(before) < len(digests(pair))
    second = told(push())
    assert second["held_bytes"] == nbytes(out, before)
    assert second["sent_bytes"] == nbytes(out, digests(pair).keys() - before.keys())
    assert before.items() <= whole(out).items()
    assert digests(out) == digests(pair)
    assert list(out.rglob("*.partial")) == []


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_push_leaves_no_agent(push, tmp_path, number):
    process = push(pause_s=0.3)
    wait_for_files(process, tmp_path / "set", count=1)
    family = push.family(process)
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, out) == (130, "")
    assert err.splitlines()[-1] == "dsv4-tp: error: interrupted"
    assert [member for member in family if member.is_running()] == []
    assert list((tmp_path / "set").rglob("*.partial")) == []


@pytest.mark.slow
def test_a_checkpoint_that_is_swapped_meanwhile_is_named(push, tmp_path, pair):
    model, out = shutil.copytree(demo.path(), tmp_path / "model"), tmp_path / "set"
    process = push(model=model, pause_s=0.3)
    wait_for_files(process, out, count=2)
    shutil.copy(model / SHARD, tmp_path / "fresh")
    (tmp_path / "fresh").rename(model / SHARD)
    code, _, err = finish(process)
    assert code == 2
    (line,) = err.splitlines()
    assert f"error: {model}/{SHARD}: changed while it was being read" in line
    assert digests(out).items() < digests(pair).items()
    assert list(out.rglob("*.partial")) == []
    assert told(push(model=model))["held_bytes"] > 0
    assert digests(out) == digests(pair)


def test_a_disk_that_is_full_is_named(push, tmp_path, pair):
    out = tmp_path / "set"
    largest = max(file.stat().st_size for file in pair.rglob("*.safetensors"))
    code, _, err = finish(push(most_bytes=largest - 1))
    assert code == 2
    (line,) = err.splitlines()
    assert f"error: localhost: {out}/rank-0/" in line
    assert "No space left on device; finished files stay, so the same command goes on" in line
    assert list(out.rglob("*.partial")) == []
    assert digests(out).items() < digests(pair).items()
    told(push())
    assert digests(out) == digests(pair)


@pytest.mark.slow
def test_other_things_are_left_alone(push, tmp_path, pair):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    code, _, err = finish(push(out=tmp_path / "mine"))
    assert code == 2
    assert f"error: localhost: {tmp_path}/mine: not empty and no prepared set" in err
    told(push())
    code, _, err = finish(push(weight=2))
    assert code == 2
    assert f"error: localhost: {tmp_path}/set: holds a set for 2 ranks 1:1, " in err
    assert digests(tmp_path / "set") == digests(pair)


def test_a_set_for_other_shares_is_refused_before_any_agent_starts(push, tmp_path, pair):
    code, _, err = finish(push(model=pair, weight=2, out=tmp_path / "other"))
    assert code == 2
    assert f"error: {pair}: prepared for 2 ranks 1:1, " in err
    assert not (tmp_path / "other").exists()


def test_a_set_with_another_byte_is_not_sent(push, tmp_path, pair):
    broken = shutil.copytree(pair, tmp_path / "broken")
    file = broken / "rank-1" / "layers.0.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    code, _, err = finish(push(model=broken))
    assert code == 2
    assert "rank-1/layers.0.safetensors: not as it was written; make the set again" in err
    assert (1, "layers.0.safetensors") not in digests(tmp_path / "set")
    assert list((tmp_path / "set").rglob("*.partial")) == []
