"""Who may command an agent: certificates of a real authority, shown to a real server."""

import asyncio
import json
import os
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from dsv4_tp.errors import PreflightError
from dsv4_tp.launcher import authority as authority_module
from dsv4_tp.launcher.authority import authority_of, new_authority
from dsv4_tp.rpc.auth import agent_name, read_identity, written
from dsv4_tp.rpc.channel import open_agent_channel, open_channel
from dsv4_tp.rpc.server import agent_server
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.agent_pb2_grpc import (
    AgentServiceServicer,
    AgentServiceStub,
    add_AgentServiceServicer_to_server,
)

HOST = "me@Mac Büro.local"  # people name their machines as they like
OURS, OTHER = new_authority("one"), new_authority("one")
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH
REFUSED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}


class Obeying(AgentServiceServicer):
    """Counts the calls that came through."""

    def __init__(self):
        self.calls = 0

    async def Shutdown(self, request, context):
        self.calls += 1
        return pb.ShutdownResponse()


def believing_ours(identity):
    """A client that does not mind whom it speaks to."""
    return replace(identity, authority=OURS.coordinator().authority)


def self_signed():
    """The certificate of an authority is one that has signed itself."""
    stranger = OTHER.coordinator()
    key = OTHER.written().partition("-----BEGIN CERTIFICATE")[0]
    return replace(stranger, certificate=stranger.authority, key=key)


def late(monkeypatch):
    monkeypatch.setattr(authority_module, "_LEAF", timedelta(minutes=-1))
    return OURS.coordinator()


def outcome(open_to, server=None):
    """How a call ends that is made over `open_to(address)`, and how many calls the agent saw."""

    async def call():
        async with (
            serving(server or OURS.agent(HOST)) as (address, service),
            open_to(address) as channel,
        ):
            try:
                await AgentServiceStub(channel).Shutdown(pb.ShutdownRequest(), timeout=10)
            except grpc.aio.AioRpcError as error:
                return error.code(), service.calls
            return grpc.StatusCode.OK, service.calls

    return asyncio.run(call())


@asynccontextmanager
async def serving(identity):
    service = Obeying()
    server, port = agent_server(identity, "127.0.0.1", 0)
    add_AgentServiceServicer_to_server(service, server)
    await server.start()
    yield f"127.0.0.1:{port}", service
    await server.stop(None)


def shown(identity):
    return lambda address: open_agent_channel(address, HOST, identity)


def test_the_coordinator_is_obeyed_whatever_the_host_is_called():
    assert outcome(shown(OURS.coordinator())) == (grpc.StatusCode.OK, 1)


def test_strangers_are_refused_and_nothing_happens(monkeypatch):
    strangers = {
        "another cluster's": believing_ours(OTHER.coordinator()),
        "self-signed": believing_ours(self_signed()),
        "another agent": OURS.agent("mac-b"),
        "expired": late(monkeypatch),
    }
    for who, identity in strangers.items():
        assert outcome(shown(identity)) == (grpc.StatusCode.UNAVAILABLE, 0), who
    assert outcome(open_channel) == (grpc.StatusCode.UNAVAILABLE, 0)


def test_an_agent_commands_nobody_even_as_a_client():
    agent = OURS._issue(agent_name("mac-b"), CLIENT)
    assert outcome(shown(agent)) == (grpc.StatusCode.UNAUTHENTICATED, 0)


@pytest.mark.parametrize("server", [OURS.agent("mac-b"), OTHER.agent(HOST)])
def test_one_that_is_not_the_agent_of_that_host_hears_nothing(server):
    everybodys = replace(server, authority=OURS.coordinator().authority)
    assert outcome(shown(OURS.coordinator()), everybodys) == (grpc.StatusCode.UNAVAILABLE, 0)


def test_clocks_may_differ_by_a_day(monkeypatch):
    line, now = written(OURS.agent(HOST)), time.time()
    for days in (-0.9, 0.9):
        monkeypatch.setattr(time, "time", lambda days=days: now + days * 86400)
        assert read_identity(line).certificate.startswith("-----BEGIN")
    monkeypatch.setattr(time, "time", lambda: now - 3 * 86400)
    with pytest.raises(PreflightError, match=r"the clock here is 3\.0 days behind that of"):
        read_identity(line)


@pytest.mark.parametrize("line", ["", "secret\n", "[]", '{"clock_s": 0, "identity": {"key": "K"}}'])
def test_an_agent_that_is_not_told_who_it_is_says_so_without_the_words(line):
    with pytest.raises(PreflightError, match="started by `dsv4-tp launch`") as caught:
        read_identity(line)
    assert not line or line not in str(caught.value)


def test_a_key_is_not_in_what_is_printed():
    identity = OURS.coordinator()
    assert "PRIVATE KEY" not in repr(identity)
    assert "PRIVATE KEY" in json.loads(written(identity))["identity"]["key"]


def test_a_cluster_keeps_its_authority_for_its_user_only(tmp_path):
    first = authority_of(tmp_path, "big")
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    # A coordinator that comes back speaks to the agents of the one before.
    server = first.agent(HOST)
    again = authority_of(tmp_path, "big").coordinator()
    assert outcome(shown(again), server) == (grpc.StatusCode.OK, 1)
    other = authority_of(tmp_path, "small").coordinator()
    assert outcome(shown(other), server)[0] in REFUSED


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda file: file.chmod(0o640), "others could read the key"),
        (lambda file: file.write_text("no key"), "not a key and its certificate"),
        (lambda file: os.truncate(file, 300), "not a key and its certificate"),
    ],
)
def test_a_spoilt_file_is_named_with_what_to_do(tmp_path, spoil, complaint):
    authority_of(tmp_path, "big")
    spoil(tmp_path / "big.pem")
    with pytest.raises(PreflightError, match=f"{complaint}.*; .*: rm {tmp_path}/big.pem"):
        authority_of(tmp_path, "big")


def test_an_authority_whose_time_is_over_is_replaced(tmp_path, monkeypatch):
    with monkeypatch.context() as once:
        once.setattr(authority_module, "_ROOT", timedelta(days=100))
        old = authority_of(tmp_path, "big").coordinator()
    new = authority_of(tmp_path, "big").coordinator()
    assert new.authority != old.authority
    assert authority_of(tmp_path, "big").coordinator().authority == new.authority
