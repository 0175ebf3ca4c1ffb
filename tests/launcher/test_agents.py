"""Agents as real processes of this machine."""

import asyncio
import sys

import grpc
import psutil
import pytest

from dsv4_tp.config import Host
from dsv4_tp.errors import PreflightError
from dsv4_tp.launcher import agents
from dsv4_tp.launcher.agents import end_agents, start_agents
from dsv4_tp.launcher.authority import new_authority
from dsv4_tp.rpc.channel import open_channel
from dsv4_tp.v1.agent_pb2 import InspectRequest, ShutdownRequest
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceStub


def host(name="localhost", **words):
    given = {"address": None, "python": sys.executable, "workdir": None, "model_path": None}
    return Host(name=name, ssh=words.pop("ssh", "localhost"), **(given | words))


def start(*hosts, start_s=60):
    return asyncio.run(start_agents(hosts, new_authority("test"), start_s=start_s))


def test_an_agent_answers_and_ends():
    async def life():
        (agent,) = await start_agents([host()], new_authority("test"), start_s=60)
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


def slow(tmp_path, wait):
    python = tmp_path / "slow"
    python.write_text(f"#!/bin/sh\n{wait}\n")
    python.chmod(0o755)
    return host("mac-b", python=str(python))


def test_an_agent_that_takes_too_long_is_told_as_a_wait(tmp_path):
    late = slow(tmp_path, "exec sleep 60")
    with pytest.raises(PreflightError) as caught:
        start(late, start_s=0.2)
    waited = f"mac-b: waited 0.2 s for its agent to serve ({late.python} -m dsv4_tp agent); "
    assert str(caught.value).startswith(waited)
    assert "raise timeouts.start_s if it is only slow, or try there: " in str(caught.value)


def test_an_agent_that_serves_is_spoken_to_while_others_start(tmp_path, monkeypatch):
    spoken = tmp_path / "spoken"

    async def inspect(agent, request):
        spoken.touch()

    monkeypatch.setattr(agents, "_ALIVE_S", 0.01)
    monkeypatch.setattr(agents.Agent, "inspect", inspect)
    late = slow(tmp_path, f"until [ -e {spoken} ]; do sleep 0.1; done; exit 1")
    with pytest.raises(PreflightError, match="mac-b: the agent did not start"):
        start(host(), late, start_s=30)


def test_an_unknown_remote_host_is_named_and_the_others_are_ended():
    before = {child.pid for child in psutil.Process().children()}
    with pytest.raises(PreflightError) as caught:
        start(host(), host("mac-b", ssh="mac-b.invalid"))
    assert "mac-b: cannot be reached by ssh: " in str(caught.value)
    assert "try: ssh -o BatchMode=yes mac-b.invalid true" in str(caught.value)
    after = {child.pid for child in psutil.Process().children() if child.is_running()}
    assert after <= before
