"""Agents hear each other, and tell who has fallen silent; nobody else is taken for one."""

import asyncio
import socket
import time
from contextlib import asynccontextmanager

import pytest

from dsv4_tp.agent import pulse
from dsv4_tp.agent.pulse import PULSE_S, SILENT_S, Hearing, Pulse, begun, heard, links, looked
from dsv4_tp.core import Link
from dsv4_tp.v1 import agent_pb2 as pb


def look_on(hearing, since_s, until_s):
    """A look every so often, as the agent has them."""
    for beat in range(1, int((until_s - since_s) / PULSE_S) + 1):
        hearing = looked(hearing, since_s + beat * PULSE_S)
    return hearing


def test_a_peer_that_was_heard_may_fall_silent():
    hearing = heard(begun(Hearing(), ["b", "c"], 0.0), "b", 1.0)
    late = look_on(hearing, 0.0, 1.0 + SILENT_S - PULSE_S)
    assert links(late, 3.6) == (Link("b", 2.6), Link("c"))
    late = look_on(late, 3.5, 4.0)
    assert links(late, 4.0) == (Link("b", 3.0, silent=True), Link("c"))
    assert links(heard(late, "b", 4.1), 4.1) == (Link("b", 0.0), Link("c"))


def test_while_a_rank_meets_others_the_way_works():
    hearing = look_on(heard(begun(Hearing(), ["b"], 0.0), "b", 0.0), 0.0, 9.0)
    assert links(hearing, 9.0, met_s=6.5) == (Link("b", 9.0),)
    assert links(hearing, 9.0, met_s=6.0) == (Link("b", 9.0, silent=True),)


def test_the_time_in_which_the_agent_slept_does_not_count():
    asleep = heard(begun(Hearing(), ["b"], 0.0), "b", 0.0)
    assert not links(asleep, 9.0)[0].silent
    awake = looked(asleep, 9.0)
    assert not links(awake, 9.0)[0].silent
    assert links(look_on(awake, 9.0, 12.0), 12.0)[0].silent


def test_in_another_epoch_a_peer_that_was_heard_is_watched_from_its_beginning():
    hearing = look_on(heard(begun(Hearing(), ["b"], 0.0), "b", 0.0), 0.0, 20.0)
    hearing = begun(hearing, ["b", "c"], 20.0)
    assert links(look_on(hearing, 20.0, 22.5), 22.5) == (Link("b", 22.5), Link("c"))
    assert links(look_on(hearing, 20.0, 23.0), 23.0)[0].silent


@asynccontextmanager
async def pulses(*hosts, key=b"k"):
    """Agents that pulse each other on this machine, and their ports."""
    agents = {host: Pulse() for host in hosts}
    ports = {host: await agent.open("127.0.0.1") for host, agent in agents.items()}
    for host, agent in agents.items():
        agent.begin(host, pb.Pulses(key=key, peers=peers(ports, but=host)))
    yield agents, ports
    for agent in agents.values():
        agent.close()
    await asyncio.sleep(0)  # their sockets are closed then


def peers(ports, *, but):
    found = (host for host in ports if host != but)
    return [pb.Peer(host=host, address=f"127.0.0.1:{ports[host]}") for host in found]


def pulse_of(agent, receiver):
    """What an agent would send."""
    number = (1 << 40).to_bytes(8)
    return number + agent._tag(number, agent._host, receiver) + agent._host


async def wait_heard(agent, host):
    await wait_until(lambda: Link(host) not in agent.links(met_s=0))


async def wait_until(come):
    ends_s = time.monotonic() + 20
    while not come():
        assert time.monotonic() < ends_s
        await asyncio.sleep(0.02)


def test_agents_hear_each_other():
    async def run():
        async with pulses("a", "b") as (agents, ports):
            assert await agents["a"].open("127.0.0.1") == ports["a"]
            await wait_heard(agents["a"], "b")
            await wait_heard(agents["b"], "a")

    asyncio.run(run())


def test_pulses_of_strangers_and_old_ones_are_no_sign_of_life():
    async def run():
        async with pulses("a", "b") as (agents, ports), pulses("b", key=b"another") as (others, _):
            a, b = agents["a"], agents["b"]
            b.close()
            a.begin("a", pb.Pulses(key=b"k", peers=peers(ports, but="a")))
            true = pulse_of(b, b"a")
            false = [
                b"",
                b"x" * 40,
                true[:-1] + b"c",
                pulse_of(others["b"], b"a"),
                pulse_of(b, b"c"),  # for another one
            ]
            for data in false:
                a.datagram_received(data, ("127.0.0.1", 9))
            assert a.links(met_s=0) == (Link("b"),)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(true, ("127.0.0.1", ports["a"]))
            await wait_heard(a, "b")
            before = a._hearing
            a.datagram_received(true, ("127.0.0.1", 9))
            assert a._hearing is before

    asyncio.run(run())


def test_before_there_is_a_key_nobody_is_heard():
    async def run():
        async with pulses("a", "b", key=b"") as (agents, _):
            agents["a"].datagram_received(pulse_of(agents["b"], b"a"), ("127.0.0.1", 9))
            assert agents["a"].links(met_s=0) == (Link("b"),)

    asyncio.run(run())


def test_a_name_that_is_no_text_is_no_peers():
    async def run():
        async with pulses("a", "b") as (agents, ports):
            a = agents["a"]
            agents["b"].close()
            a.begin("a", pb.Pulses(key=b"k", peers=peers(ports, but="a")))
            number = (1).to_bytes(8)
            told = number + a._tag(number, b"\xff", b"a") + b"\xff"
            a.datagram_received(told, ("127.0.0.1", 9))
            assert a.links(met_s=0) == (Link("b"),)

    asyncio.run(run())


@pytest.mark.parametrize("broken", [{"b": ("127.0.0.1", 99999)}, {b"b": ("127.0.0.1", 9)}])
def test_an_agent_that_cannot_pulse_any_more_says_so_and_watches_nobody(
    broken, capsys, monkeypatch
):
    monkeypatch.setattr(pulse, "PULSE_S", 0.01)

    async def run():
        async with pulses("a", "b") as (agents, ports):
            a = agents["a"]
            a._peers = broken
            await wait_until(lambda: not a.links(met_s=0))
            assert await a.open("127.0.0.1") != 0  # for the next epoch
            a.begin("a", pb.Pulses(key=b"k", peers=peers(ports, but="a")))
            assert a.links(met_s=0) == (Link("b"),)

    asyncio.run(run())
    assert capsys.readouterr().err.count("no-pulse") == 1


def test_an_agent_that_cannot_listen_there_says_so(capsys):
    # An address for documents, which is no machine's.
    assert asyncio.run(Pulse().open("192.0.2.1")) == 0
    assert "no-pulse" in capsys.readouterr().err
