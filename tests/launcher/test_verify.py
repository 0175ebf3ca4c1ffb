"""Copies on several hosts, compared: what is decided, and agents that really read."""

import asyncio
import shutil
import sys

import pytest

from dsv4_tp import demo
from dsv4_tp.config import ClusterConfig, Host, ModelConfig, Rank
from dsv4_tp.core import ExpertSplit
from dsv4_tp.errors import DeadlineError, PreflightError
from dsv4_tp.launcher import agents as agents_module
from dsv4_tp.launcher import verify as verify_module
from dsv4_tp.launcher.agents import end_agents, start_agents
from dsv4_tp.launcher.authority import new_authority
from dsv4_tp.launcher.verify import Copy, differences, verify_hosts
from dsv4_tp.prepared import fill_set, project, read_manifest
from tests.prepared.sets import begin, prepare

PARTS = project(demo.path(), (1, 1), ExpertSplit.WIDTH).manifest.parts
SHARD = "model-00002-of-00002.safetensors"


def copy(**digests):
    names = {"config": "config.json", "one": "1.safetensors", "two": "2.safetensors"}
    return Copy("/m", {names[key]: digest for key, digest in digests.items()})


FULL = {"config": b"c", "one": b"1", "two": b"2"}


def test_equal_copies_pass():
    assert list(differences({"mac-a": copy(**FULL), "mac-b": copy(**FULL)})) == []


@pytest.mark.parametrize(
    ("theirs", "complaint"),
    [
        (FULL | {"two": b"x"}, "/m/2.safetensors is not as on mac-a, mac-c"),
        (FULL | {"config": b"x"}, "/m/config.json is not as on mac-a, mac-c"),
        ({"config": b"c", "one": b"1"}, "/m/2.safetensors is missing, unlike on mac-a, mac-c"),
        (dict.fromkeys(FULL, b"x"), "/m/config.json, 1.safetensors, 2.safetensors is not as on"),
    ],
)
def test_the_odd_one_out_is_named_with_the_file(theirs, complaint):
    for odd in ("mac-a", "mac-b"):
        copies = {host: copy(**FULL) for host in ("mac-a", "mac-b", "mac-c")}
        copies[odd] = copy(**theirs)
        (line,) = differences(copies)
        others = [host for host in copies if host != odd]
        assert line.startswith(f"{odd}: {complaint.replace('mac-a, mac-c', ', '.join(others))}")
        assert line.endswith("; copy it there again, or send the weights with `dsv4-tp push`")


def test_of_two_the_first_is_believed():
    copies = {"mac-b": copy(**FULL), "mac-a": copy(**FULL | {"one": b"x"})}
    assert [line.split(":")[0] for line in differences(copies)] == ["mac-a"]


@pytest.mark.parametrize("theirs", [{"config": b"c"}, {"one": b"1", "two": b"2"}])
def test_what_a_prepared_set_needs_not_have_is_not_missed(theirs):
    assert list(differences({"mac-a": copy(**FULL), "mac-b": copy(**theirs)})) == []


@pytest.fixture
def copies(tmp_path, monkeypatch):
    """Two hosts, which are two agents here, each with a copy of the demo model."""
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))
    return [shutil.copytree(demo.path(), tmp_path / name) for name in ("a", "b")]


def verify(copies, tell=lambda _: None, pythons=(sys.executable, sys.executable)):
    hosts = [
        Host(name, "localhost", None, python, None, str(path))
        for name, path, python in zip(("mac-a", "mac-b"), copies, pythons, strict=False)
    ]
    config = ClusterConfig(tuple(hosts), tuple(map(Rank, hosts)), ModelConfig("/m"))

    async def life():
        agents = await start_agents(hosts, new_authority("test"), start_s=60)
        try:
            await verify_hosts(agents, config, PARTS, tell)
        finally:
            await end_agents(agents)
            assert [agent.process.returncode for agent in agents] == [0] * len(hosts)

    asyncio.run(life())


def flip(file):
    with file.open("r+b") as stream:
        stream.seek(-1, 2)
        byte = stream.read(1)[0]
        stream.seek(-1, 2)
        stream.write(bytes([byte ^ 1]))


def test_agents_find_one_byte(copies):
    verify(copies)
    flip(copies[1] / SHARD)
    with pytest.raises(PreflightError, match=f"mac-b: {copies[1]}/{SHARD} is not as on mac-a; "):
        verify(copies)
    flip(copies[1] / SHARD)
    verify(copies)


def test_one_host_alone_has_nothing_to_be_compared_with(copies, tmp_path):
    flip(copies[0] / SHARD)
    verify(copies[:1])
    assert list((tmp_path / "state").rglob("*.json")) == []  # nothing was read


def test_a_set_on_one_host_alone_is_held_against_what_was_written(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))
    made = prepare(demo.path(), tmp_path / "set", [1])
    monkeypatch.setattr(f"{__name__}.PARTS", read_manifest(made).parts)
    verify([made])
    flip(made / "rank-0" / "layers.1.safetensors")
    with pytest.raises(PreflightError, match=r"rank-0/layers.1.safetensors: not as it was written"):
        verify([made])


def test_a_host_that_lacks_a_file_is_named(copies):
    (copies[1] / SHARD).unlink()
    with pytest.raises(PreflightError, match=f"mac-b: {copies[1]}: 1 of 2 files .*{SHARD}"):
        verify(copies)


def make_sets(tmp_path):
    """For each of two hosts the prepared set of the demo, with the files of its rank."""
    sets = [tmp_path / f"set-{rank}" for rank in (0, 1)]
    for rank, out in enumerate(sets):
        fill_set(out, begin(demo.path(), out, (1, 1)).of([rank]), lambda *_: None)
    return sets


@pytest.mark.slow
def test_the_files_of_a_set_are_held_against_what_was_written(copies, tmp_path):
    sets = make_sets(tmp_path)
    verify(sets)
    verify([copies[0], sets[1]])
    file = sets[1] / "rank-1" / "layers.1.safetensors"
    flip(file)
    with pytest.raises(PreflightError, match=f"mac-b: {file}: not as it was written; remove it"):
        verify([copies[0], sets[1]])
    file.unlink()
    with pytest.raises(PreflightError, match=r"mac-b: .* are missing or unfinished: layers\.1"):
        verify(sets)
    make_sets(tmp_path)
    verify(sets)


def test_a_set_that_lacks_the_hosts_rank_is_refused(copies, tmp_path):
    with pytest.raises(PreflightError, match=r"mac-b: .*/set-0/rank-1: "):
        verify(make_sets(tmp_path)[:1] * 2)


def test_progress_is_told_in_tenths_and_only_where_bytes_are_read(copies):
    for path in copies:
        (shard := path / SHARD).rename(path / "old")
        # Zeros that take no room, so that reading takes a while.
        with shard.open("wb") as stream:
            stream.truncate(1 << 29)
    lines = []
    verify(copies, lines.append)
    assert all(line.startswith("checking files: ") for line in lines)
    assert all(line.endswith(" % of 1.1 GB") for line in lines[1:])
    tenths = [int(line.split()[2]) for line in lines]
    assert tenths == sorted(set(tenths))
    assert len(tenths) > 1
    lines.clear()
    verify(copies, lines.append)
    assert lines == []


def test_an_interrupted_check_leaves_no_agent(copies):
    with (copies[1] / SHARD).open("r+b") as stream:
        stream.truncate(1 << 40)

    def tell(line):
        assert line == "checking files: 0 % of 1099.5 GB"
        raise KeyError

    with pytest.raises(KeyError):
        verify(copies, tell)


STILL = """#!{python}
import sys, time
from dsv4_tp.agent.digests import Hashing
from dsv4_tp.cli.main import run

def still(self, file):
    while not self._stopped.wait(1):
        pass

Hashing._digest = still
sys.exit(run(sys.argv[3:]))
"""


SLOW = """#!{python}
import sys, time
from dsv4_tp.agent import supervisor
from dsv4_tp.agent.digests import Hashing
from dsv4_tp.cli.main import run

supervisor.FIRST_SESSION_S = 4.0
digest = Hashing._digest

def slow(self, file):
    time.sleep(7)
    return digest(self, file)

Hashing._digest = slow
sys.exit(run(sys.argv[3:]))
"""


@pytest.mark.slow
def test_agents_live_while_one_of_them_reads_for_long(copies, monkeypatch, tmp_path):
    monkeypatch.setattr(agents_module, "_ALIVE_S", 0.3)
    python = tmp_path / "python"
    python.write_text(SLOW.format(python=sys.executable))
    python.chmod(0o755)
    verify(copies[:1] * 2)  # the first host has nothing to read then
    verify(copies, pythons=[str(python)] * 2)


def test_a_disk_that_stands_still_is_named(copies, monkeypatch, tmp_path):
    monkeypatch.setattr(verify_module, "_STILL_S", 2.0)
    python = tmp_path / "python"
    python.write_text(STILL.format(python=sys.executable))
    python.chmod(0o755)
    verify(copies[:1] * 2)
    with pytest.raises(DeadlineError, match="mac-b: its disk gave no byte for 2 s"):
        verify(copies, pythons=[sys.executable, str(python)])
