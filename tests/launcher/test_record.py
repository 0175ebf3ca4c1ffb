"""What a launch leaves behind for the next one, and what makes that begin anew."""

import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dsv4_tp.config import Host, Restart, Timeouts
from dsv4_tp.coordinator.setup import AgentSetup, Setup
from dsv4_tp.core import Backend, CacheRows, DType, Kernels
from dsv4_tp.launcher.agents import Agent, Orphan
from dsv4_tp.launcher.record import Known, Record, digest_of, read_record, write_record
from dsv4_tp.rpc.auth import Identity
from dsv4_tp.v1.agent_pb2 import FileDigest, InspectResponse
from tests.specs import TINY

HERE = Host("localhost", "localhost", None, "python3", None, None)
MAC_B = Host("mac-b", "me@mac-b", "10.0.0.2", "python3", "/src", "/models/b")
IDENTITY = Identity("certificate", "authority", "key")
FACTS = InspectResponse(
    version="1", memory_bytes=2**40, samples=[FileDigest(name="1.safetensors", sha256=b"\xff\0")]
)


def agents():
    here = Orphan(os.getpid(), psutil.Process().create_time())
    return (
        Agent(HERE, "127.0.0.1:1", None, None, IDENTITY, here),
        Agent(MAC_B, "10.0.0.2:2", "10.0.0.2", "10.0.0.1", IDENTITY, None),
    )


def record(**words):
    given = {
        "launch": "20261121T182616Z-lab",
        "turn": 2,
        "digest": "abc",
        "agents": tuple(map(Known.of, agents())),
        "fence_s": 30.0,
        "facts": {"localhost": FACTS, "mac-b": FACTS},
    }
    return Record(**(given | words))


def setup(**words):
    given = {
        "name": "lab",
        "agents": (AgentSetup("localhost", "127.0.0.1:1", "127.0.0.1", (0, 1), "/m"),),
        "identity": IDENTITY,
        "spec": TINY,
        "model_path": Path("/m"),
        "model_name": "/m",
        "dtype": DType.FLOAT32,
        "parts": (TINY.whole,),
        "planned_bytes": (1,),
        "data_port": None,
        "backend": Backend.RING,
        "rdma": None,
        "prefill_chunk": 32,
        "context": 100,
        "cache_rows": CacheRows.EXACT,
        "kernels": Kernels.PLAIN,
        "batch": 8,
        "mtp": 0,
        "queue": 64,
        "time_limit_s": None,
        "prefix_bytes": 0,
        "prefixes_on_disk": False,
        "timeouts": Timeouts(),
        "restart": Restart(),
        "history": Path("/state/launches/1"),
    }
    return Setup(**(given | words))


def test_what_is_written_is_read_by_its_user_alone_and_holds_no_key(tmp_path):
    file = tmp_path / "lab.launch"
    write_record(file, record())
    assert read_record(file) == record()
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
    assert "key" not in file.read_text()
    assert tuple(known.agent(IDENTITY) for known in read_record(file).agents) == agents()


def test_where_nothing_was_left_there_is_nothing_to_say(tmp_path, capsys):
    assert read_record(tmp_path / "lab.launch") is None
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "spoil",
    [
        lambda words: "{" + json.dumps(words),
        lambda words: "[]",
        lambda words: json.dumps(words | {"format": 1}),
        lambda words: json.dumps(words | {"launch": "../.."}),
        lambda words: json.dumps(words | {"facts": words["facts"] | {"mac-b": {"tomorrow": 1}}}),
        lambda words: json.dumps(words | {"facts": {"localhost": {}}}),
        lambda words: json.dumps(words | {"facts": ["localhost", "mac-b"]}),
        lambda words: json.dumps({key: words[key] for key in words if key != "digest"}),
        lambda words: json.dumps(words | {"agents": [{"host": {}, "process": None}]}),
    ],
)
def test_what_is_not_understood_counts_as_nothing_and_is_said_once(tmp_path, capsys, spoil):
    file = tmp_path / "lab.launch"
    write_record(file, record())
    file.write_text(spoil(json.loads(file.read_text())))
    assert read_record(file) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert f"launch-record-unreadable file={file}" in line


def test_where_it_cannot_be_written_there_is_none(tmp_path, capsys):
    write_record(tmp_path / "none" / "lab.launch", record())
    assert "launch-not-recorded" in capsys.readouterr().err


def test_whatever_ranks_were_started_with_makes_another_digest():
    same = digest_of(setup(), [HERE], "checkpoint")
    for other in (
        digest_of(setup(batch=4), [HERE], "checkpoint"),
        digest_of(setup(timeouts=Timeouts(step_s=1)), [HERE], "checkpoint"),
        digest_of(setup(data_port=1), [HERE], "checkpoint"),
        digest_of(setup(backend=Backend.JACCL), [HERE], "checkpoint"),
        digest_of(setup(agents=(replace(setup().agents[0], ranks=(1,)),)), [HERE], "checkpoint"),
        digest_of(setup(), [replace(HERE, python="python4")], "checkpoint"),
        digest_of(setup(), [HERE], "another"),
    ):
        assert other != same


def test_what_only_a_coordinator_depends_on_makes_none():
    same = digest_of(setup(), [HERE], "checkpoint")
    given = {"queue": 1, "restart": Restart(most=1), "history": Path("/other"), "identity": None}
    assert digest_of(setup(**given), [HERE], "checkpoint") == same
