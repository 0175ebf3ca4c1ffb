"""What an agent takes in, and what it refuses, over the wire."""

import asyncio
import hashlib
import tempfile
from pathlib import Path

import grpc
import pytest

from dsv4_tp import demo
from dsv4_tp.core import ExpertSplit
from dsv4_tp.prepared import Sink, project, rank_folder, read_digests
from dsv4_tp.v1 import agent_pb2 as pb
from tests.agent.test_session import agent

MANIFEST = project(demo.path(), (1, 1), ExpertSplit.WIDTH).manifest.to_json()
DATA = b"abcdefgh"


def head(out, **words):
    usual = {"path": str(out), "manifest": MANIFEST, "small_files": {"config.json": b"{}"}}
    return pb.ReceiveRequest(begin=pb.SetHead(**(usual | {"ranks": [1]} | words)))


def file(name="head.safetensors", rank=1, nbytes=8):
    return pb.ReceiveRequest(file=pb.FileHead(rank=rank, name=name, nbytes=nbytes))


def chunks(*pieces, so_far=b""):
    for data in pieces:
        so_far += data
        sha256 = hashlib.sha256(so_far).digest()
        yield pb.ReceiveRequest(chunk=pb.Chunk(data=data, sha256=sha256))


def answers(*requests):
    """All that an agent says to these; it is not told that they are all."""

    async def life(folder):
        async with agent(Path(folder)) as (stub, _):
            call, heard = stub.Receive(), []
            for request in requests:
                await call.write(request)
            while not heard or heard[-1].WhichOneof("kind") != "failed":
                try:
                    response = await asyncio.wait_for(call.read(), 1.0)
                except TimeoutError:
                    break
                assert response is not grpc.aio.EOF
                heard.append(response)
            return heard

    with tempfile.TemporaryDirectory() as folder:
        return asyncio.run(life(folder))


def traces(folder):
    """Files that are whole, and those that are not."""
    return set(read_digests(rank_folder(folder, 1))), list(folder.rglob("*.partial"))


def test_a_file_is_stored_and_known_again(tmp_path):
    out = tmp_path / "deep" / "set"
    held, stored = answers(head(out), file(), *chunks(b"abc", b"defgh"))
    assert list(held.held.files) == []
    assert held.held.free_bytes > 0
    assert (stored.stored.rank, stored.stored.name) == (1, "head.safetensors")
    assert (out / "rank-1" / "head.safetensors").read_bytes() == DATA
    assert (out / "config.json").read_bytes() == b"{}"
    (whole,) = read_digests(rank_folder(out, 1)).values()
    assert whole.sha256 == hashlib.sha256(DATA).hexdigest()
    (held,) = answers(head(out))
    assert [(f.rank, f.name, f.nbytes) for f in held.held.files] == [(1, "head.safetensors", 8)]


@pytest.mark.parametrize(
    "pieces",
    [
        [*chunks(b"abc"), *chunks(b"defgh")],  # a chunk before these is lost
        [*chunks(b"abc", b"")],
        [*chunks(b"abcdefghi")],  # more than was said
        [*chunks(b"abc"), file("norm.safetensors")],
    ],
)
def test_a_file_that_does_not_arrive_as_it_was_sent_leaves_no_trace(tmp_path, pieces):
    out = tmp_path / "set"
    *_, failed = answers(head(out), file(), *pieces)
    assert f"{out}/rank-1/head.safetensors: not received as it was sent" in failed.failed.message
    assert traces(out) == (set(), [])


def test_a_sender_that_stops_leaves_no_half_file(tmp_path):
    out = tmp_path / "set"
    (held,) = answers(head(out), file(), *chunks(b"abc"))
    assert held.HasField("held")
    assert traces(out) == (set(), [])
    with Sink(rank_folder(out, 1)):
        pass  # nobody else holds it


@pytest.mark.parametrize("name", ["../x.safetensors", "/x.safetensors", "a/../../x", "", "a\0b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path, name):
    out = tmp_path / "set"
    *_, failed = answers(head(out), file(name), *chunks(DATA))
    assert "leads out of the set" in failed.failed.message
    assert traces(out) == (set(), [])
    *_, failed = answers(head(out, small_files={name: b""}))
    assert "leads out of the set" in failed.failed.message


@pytest.mark.parametrize(
    "stranger", [file(rank=0), file("digests.jsonl"), file(".lock"), file("a/b.safetensors")]
)
def test_files_that_were_not_announced_are_refused(tmp_path, stranger):
    *_, failed = answers(head(tmp_path / "set"), stranger, *chunks(DATA))
    assert "not a file of this set" in failed.failed.message


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ({"path": "set"}, "'set': expected an absolute path"),
        ({"path": ""}, "'': expected an absolute path"),
        ({"manifest": "{"}, "/set: Expecting property name"),
        ({"manifest": '{"version": 99}'}, "/set: version 99, this program reads 1"),
    ],
)
def test_a_set_that_cannot_be_is_refused(tmp_path, words, complaint):
    (failed,) = answers(head(tmp_path / "set", **words))
    assert complaint in failed.failed.message
    assert not (tmp_path / "set").exists()
