import asyncio
from dataclasses import replace

import pytest

from dsv4_tp import __version__
from dsv4_tp.config import ClusterConfig, Host, ModelConfig, Rank
from dsv4_tp.core import Backend, DType, ExpertSplit
from dsv4_tp.errors import PreflightError, QuarantineError
from dsv4_tp.launcher import agents
from dsv4_tp.launcher.agents import Agent, command_line
from dsv4_tp.launcher.preflight import (
    check_hosts,
    check_quarantine,
    data_ips,
    dtype_of,
    inspect_hosts,
    with_backend,
)
from dsv4_tp.plan import Plan, RankBytes
from dsv4_tp.v1.agent_pb2 import FileDigest, InspectResponse
from tests.macs.recorded import said_by
from tests.specs import TINY


def host(name, **words):
    given = {"address": None, "python": "python3", "workdir": None, "model_path": None}
    return Host(name=name, ssh=name, **(given | words))


A, B = host("mac-a"), host("mac-b")
HERE = host("localhost")


def config(*hosts, **words):
    ranks = tuple(map(Rank, hosts))
    return ClusterConfig(tuple(dict.fromkeys(hosts)), ranks, ModelConfig("/m"), **words)


def fact(**words):
    usual = {
        "version": __version__,
        "mlx_version": "0.32.4",
        "python_version": "3.12.4",
        "memory_bytes": 64_000_000_000,
        "available_bytes": 60_000_000_000,
        "model_digest": b"1",
        "samples": [FileDigest(name="1.safetensors", sha256=b"1")],
        "device": "metal",
    }
    return InspectResponse(**(usual | words))


def plan(*totals):
    """Ranks with these bytes of weights; caches and buffers are those of a tiny model."""
    held = tuple(RankBytes((("all", total),)) for total in totals)
    parts = (TINY.whole,) * len(totals)
    return Plan(TINY, parts, ExpertSplit.WIDTH, held, DType.BFLOAT16, context=100)


def replan(weights):
    """Of 60 GB, by weight."""
    return plan(*(60_000_000_000 * weight // sum(weights) for weight in weights))


def agent(host, *, data_ip, launcher_ip=None):
    return Agent(host, "x:1", data_ip, launcher_ip, "token", None)


def test_a_host_that_an_earlier_launch_found_spoilt_is_refused():
    check_quarantine({"mac-a": fact(), "mac-b": fact()})
    spoilt = "pid 77 of rank 1 outlived SIGKILL; reboot it"
    with pytest.raises(QuarantineError, match=f"^mac-b: {spoilt}$") as refused:
        check_quarantine({"mac-a": fact(), "mac-b": fact(quarantine=spoilt)})
    assert refused.value.exit_code == 7


def test_fit_hosts_pass():
    check_hosts(
        config(A, B), {"mac-a": fact(), "mac-b": fact(python_version="3.12.9")}, plan(1, 1), replan
    )


@pytest.mark.parametrize(
    ("odd", "complaint"),
    [
        ({"problems": ["cannot listen on 10.0.0.2:7000: in use"]}, "mac-b: cannot listen on"),
        ({"version": "9.9"}, f"mac-b has dsv4-tp 9.9, {__version__} is here; install that"),
        ({"mlx_version": ""}, "mac-b has mlx none, 0.32.4 is on mac-a; install that"),
        ({"python_version": "3.11.1"}, "mac-b has python 3.11, 3.12 is on mac-a"),
        (
            {"model_digest": b"2", "samples": [FileDigest(name="1.safetensors", sha256=b"2")]},
            "mac-b: /m/1.safetensors is not as on mac-a; copy it there again",
        ),
        ({"model_digest": b"2", "samples": []}, "mac-b has another checkpoint than mac-a"),
        ({"available_bytes": 20_000_000_000}, "mac-b: rank 1 needs 30.0 GB"),
    ],
)
def test_a_host_that_is_not_fit_is_named_with_the_reason(odd, complaint):
    facts = {"mac-a": fact(), "mac-b": fact(**odd)}
    with pytest.raises(PreflightError) as caught:
        check_hosts(config(A, B), facts, plan(30_000_000_000, 30_000_000_000), replan)
    assert complaint in str(caught.value)


def test_ranks_of_one_host_share_its_memory():
    with pytest.raises(PreflightError, match=r"ranks 0, 1 need 80\.0 GB"):
        check_hosts(config(HERE, HERE), {"localhost": fact()}, plan(4 * 10**10, 4 * 10**10), replan)


def test_what_would_fit_is_said_once_for_all_hosts():
    small = fact(available_bytes=25_000_000_000)
    facts = {"mac-a": small, "mac-b": fact(available_bytes=50_000_000_000)}
    with pytest.raises(PreflightError) as caught:
        check_hosts(config(A, B), facts, plan(30_000_000_000, 30_000_000_000), replan)
    mac_a, advice = str(caught.value).split("; ")
    assert mac_a.startswith("mac-a: rank 0 needs 30.0 GB at a context of 100 tokens (weights 30.0")
    assert mac_a.endswith("25.0 GB may be used")
    assert advice == "what would fit: weights 1:2"


def test_this_machine_has_the_address_others_see():
    here = agent(HERE, data_ip=None)
    there = agent(A, data_ip="10.0.0.2", launcher_ip="10.0.0.1")
    assert data_ips([here, there]) == {"localhost": "10.0.0.1", "mac-a": "10.0.0.2"}
    assert data_ips([here]) == {"localhost": "127.0.0.1"}


def test_the_dtype_is_right_on_every_device():
    facts = {"mac-a": fact(), "mac-b": fact(device="cpu")}
    assert dtype_of(config(A, B), facts, torch_dtype="bfloat16") is DType.FLOAT32
    assert dtype_of(config(A), {"mac-a": fact()}, torch_dtype="bfloat16") is DType.BFLOAT16
    wanted = replace(config(A, B), model=ModelConfig("/m", DType.BFLOAT16))
    assert dtype_of(wanted, facts, torch_dtype="bfloat16") is DType.BFLOAT16


def test_the_command_of_a_remote_agent_is_quoted_and_never_asks():
    odd = host("mac-b", python="/opt/my python", workdir="/a b", address="10.0.0.2")
    *ssh, destination, remote = command_line(odd)
    assert destination == "mac-b"
    assert ("BatchMode=yes" in ssh, "-tt" in ssh) == (True, False)
    expected = "'/opt/my python' -m dsv4_tp agent --port=0 --bind=10.0.0.2 --detach"
    assert remote == f"cd '/a b' && {expected}"


def test_an_agent_on_this_machine_is_a_plain_process_on_loopback():
    expected = ["python3", "-m", "dsv4_tp", "agent", "--port=0", "--bind=127.0.0.1"]
    assert command_line(HERE) == expected


MACS = {name: fact(tools=said_by(name)) for name in ("mac-a", "mac-b")}
OTHERS = {name: fact() for name in ("mac-a", "mac-b")}


@pytest.mark.parametrize(
    ("asked", "facts", "settled"),
    [
        (Backend.RING, MACS, Backend.RING),
        (Backend.AUTO, MACS, Backend.JACCL),
        (Backend.JACCL_RING, MACS, Backend.JACCL_RING),
    ],
)
def test_what_joins_the_ranks_is_settled_by_their_cables(asked, facts, settled):
    def tell(line: str) -> None:
        raise AssertionError(line)

    assert with_backend(config(A, B, backend=asked), facts, tell).backend is settled


def test_left_open_it_is_the_ring_without_cables_and_says_why():
    told = []
    assert with_backend(config(A, B, backend=Backend.AUTO), OTHERS, told.append).backend == "ring"
    assert "backend: ring, over TCP: mac-a is no Mac, so it has no RDMA" in told[0]
    with pytest.raises(PreflightError, match="mac-a is no Mac, so it has no RDMA over Thunderbolt"):
        with_backend(config(A, B, backend=Backend.JACCL), OTHERS, told.append)
    assert len(told) == 1


def test_agents_are_spoken_to_while_their_cables_are_looked_at(monkeypatch):
    spoken = {"mac-a": asyncio.Event(), "mac-b": asyncio.Event()}

    async def inspect(agent, request):
        if not request.cables:
            spoken[agent.host.name].set()
            return InspectResponse()
        async with asyncio.timeout(5):
            await asyncio.gather(*(each.wait() for each in spoken.values()))
        return fact(device=agent.host.name)

    monkeypatch.setattr(agents.Agent, "inspect", inspect)
    both = [Agent(each, "", None, None, None, None) for each in (A, B)]
    asked = inspect_hosts(both, config(A, B, backend=Backend.AUTO), data_ips(both))
    assert {name: each.device for name, each in asyncio.run(asked).items()} == {
        "mac-a": "mac-a",
        "mac-b": "mac-b",
    }
