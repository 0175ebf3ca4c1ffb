"""Agents as real processes of this machine."""

import asyncio
import sys

import grpc
import psutil
import pytest

from dsv4_tp.config import Host
from dsv4_tp.errors import PreflightError
from dsv4_tp.launcher.agents import end_agents, start_agents
from dsv4_tp.launcher.authority import new_authority
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.v1.agent_pb2 import InspectRequest, ShutdownRequest
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceStub


def host(name="localhost", **words):
    given = {"address": None, "python": sys.executable, "workdir": None, "model_path": None}
    return Host(name=name, ssh=words.pop("ssh", "localhost"), **(given | words))


def start(*hosts):
    return asyncio.run(start_agents(hosts, new_authority("test")))


def test_an_agent_answers_and_ends():
    async def life():
        (agent,) = await start_agents([host()], new_authority("test"))
        process = psutil.Process(agent.process.pid)
        family = [process, *process.children(recursive=True)]
        async with open_channel(agent.address) as stranger:
            with pytest.raises(grpc.aio.AioRpcError):
                await AgentServiceStub(stranger).Shutdown(ShutdownRequest(), timeout=5)
        facts = await agent.inspect(InspectRequest(free_ports=1))
        await end_agents([agent])
        return facts, [member.is_running() for member in family]

    facts, alive = asyncio.run(life())
    assert len(facts.free_ports) == 1
    assert alive == [False, False]


def test_an_interpreter_that_is_not_there_is_named():
    with pytest.raises(PreflightError, match="localhost: /none/python: No such file"):
        start(host(python="/none/python"))


def test_what_a_failed_agent_said_is_told(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no module here >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(PreflightError) as caught:
        start(host(python=str(python)))
    assert "localhost: the agent did not start: no module here; try there: " in str(caught.value)


def test_an_unknown_remote_host_is_named_and_the_others_are_ended():
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(PreflightError) as caught:
        start(host(), host("mac-b", ssh="mac-b.invalid"))
    assert "mac-b: cannot be reached by ssh: " in str(caught.value)
    assert "try: ssh -o BatchMode=yes mac-b.invalid true" in str(caught.value)
    after = {child.pid for child in psutil.Process().children() if child.is_running()}
    assert after <= before
