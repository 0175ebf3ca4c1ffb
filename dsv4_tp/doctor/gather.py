"""Collects the evidence: asks all hosts at once, and takes whatever they do not answer as such."""

import asyncio
import platform
import secrets
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, replace
from typing import Any, TypeVar

from dsv4_tp.agent.machine import inspect
from dsv4_tp.config import ClusterConfig, Host
from dsv4_tp.core import Rdma
from dsv4_tp.doctor.dial import dial
from dsv4_tp.doctor.evidence import Case, Clock, Dial, Facts, Found, Ports, RankTrial, Refusal
from dsv4_tp.doctor.session import NoSession, Session, open_session
from dsv4_tp.errors import DeadlineError
from dsv4_tp.macs.mac import COMMANDS, read_mac
from dsv4_tp.v1.agent_pb2 import InspectRequest

LOOPBACK = "127.0.0.1"
_DARWIN = "Darwin"
_ASK_S = 10.0
_FACTS_S = 60.0  # samples of a checkpoint's files are read
_TOOL_S = 40.0
_DIAL_S = 3.0
_MEET_S = 30.0  # for the ranks of a trial to meet, and as long again to measure
_LOOKS = 3  # at a clock; the quickest answer counts

_T = TypeVar("_T")
Sessions = Mapping[str, Session]  # of the hosts that have one, by name
Needs = Callable[[Collection[str]], Mapping[str, int]]  # by host, of ranks on these devices


@asynccontextmanager
async def sessions_with(config: ClusterConfig) -> AsyncGenerator[tuple[Sessions, dict[str, Found]]]:
    """Sessions with all hosts that let us in, and why the others do not."""
    start_s = config.timeouts.start_s
    async with AsyncExitStack() as stack:

        async def open_one(host: Host) -> Session | Refusal:
            try:
                return await stack.enter_async_context(open_session(host, start_s=start_s))
            except NoSession as refused:
                return refused.refusal

        opened = await asyncio.gather(*map(open_one, config.hosts))
        named = {host.name: one for host, one in zip(config.hosts, opened, strict=True)}
        sessions = {name: one for name, one in named.items() if isinstance(one, Session)}
        refusals = {n: Found(refusal=one) for n, one in named.items() if isinstance(one, Refusal)}
        yield sessions, refusals


async def gather(
    config: ClusterConfig, sessions: Sessions, found: Mapping[str, Found], needs: Needs
) -> Case:
    """All evidence but the trial."""
    word = secrets.token_hex(8)  # that no stranger knows
    found = await look(config, sessions, found)
    ips = data_ips(config, found)
    found |= {host: replace(found[host], data_ip=ip) for host, ip in ips.items()}
    found |= await _each(
        sessions, lambda host: _open(sessions[host], config, found[host], host, word)
    )
    found |= await _each(sessions, lambda host: _go(sessions[host], found, host, word))
    devices = {one.facts.device for one in found.values() if one.facts}
    return Case(
        config=config,
        found=found,
        needs=needs(devices) if devices else {},
        here=_port_here(config),
        launched_on_mac=platform.system() == _DARWIN,
    )


async def look(
    config: ClusterConfig, sessions: Sessions, found: Mapping[str, Found]
) -> dict[str, Found]:
    """What each host is, beside what is known of those without a session."""
    seen = await _each(sessions, lambda host: _look(sessions[host], config, host))
    return {host.name: (dict(found) | seen)[host.name] for host in config.hosts}


async def try_ring(case: Case, sessions: Sessions, rdma: Rdma | None) -> Case:
    """The case with a trial of all ranks joined, each in the interpreter of its host."""
    config = case.config
    free = {name: iter(one.ports.free) for name, one in case.found.items() if one.ports}
    hosts = [rank.host.name for rank in config.ranks]
    nonce = secrets.token_hex(16)
    addresses = [f"{case.found[host].data_ip}:{next(free[host])}" for host in hosts]

    async def meet(host: str) -> list[RankTrial]:
        ranks = config.ranks_on(case.host(host))
        words = {
            "ranks": ranks,
            "addresses": addresses,
            "deadline_s": _MEET_S,
            "nonce": nonce,
            "rdma": asdict(rdma) if rdma else None,
        }
        try:
            answer = await sessions[host].ask("meet", patience_s=3 * _MEET_S, **words)
        except DeadlineError as error:
            return [RankTrial(rank, str(error)) for rank in ranks]
        return [_rank_trial(rank, answer.get(str(rank), answer)) for rank in ranks]

    met = await _each(sessions, meet)
    trials = sorted((trial for own in met.values() for trial in own), key=lambda t: t.rank)
    return replace(case, trial=tuple(trials))


def data_ips(config: ClusterConfig, found: Mapping[str, Found]) -> dict[str, str]:
    """Where the ranks of each host would listen: as a launch would have it."""
    facts = {name: one.facts for name, one in found.items() if one.facts}
    ours = next((fact.launcher for fact in facts.values() if fact.launcher), LOOPBACK)
    return {
        host.name: host.data_ip or (facts[host.name].address or ours)
        for host in config.hosts
        if host.name in facts
    }


async def _each(hosts: Iterable[str], work: Callable[[str], Awaitable[_T]]) -> dict[str, _T]:
    """Do it for all hosts at once; by name."""
    names = list(hosts)
    return dict(zip(names, await asyncio.gather(*map(work, names)), strict=True))


async def _look(session: Session, config: ClusterConfig, name: str) -> Found:
    """What the host is; one that breaks off on the way counts as one that did not answer."""
    model = next(config.model_path_on(host) for host in config.hosts if host.name == name)
    try:
        words = await session.ask("facts", patience_s=_FACTS_S, model=model)
        if "error" in words:
            return Found(refusal=Refusal(False, words["error"]))
        said = dict[str, str]()
        for tool in COMMANDS if words["system"] == _DARWIN else ():
            answer = await session.ask("tool", patience_s=_TOOL_S, name=tool)
            said |= {} if answer["text"] is None else {tool: answer["text"]}
        clock = min([await _time(session) for _ in range(_LOOKS)], key=lambda c: c.unsure_s)
    except DeadlineError as error:
        return Found(refusal=Refusal(False, str(error)))
    mac = read_mac(said) if words["system"] == _DARWIN else None
    return Found(facts=_facts(words), clock=clock, said=said, mac=mac)


def _facts(words: Mapping[str, Any]) -> Facts:
    lists: dict[str, Any] = {key: tuple(words[key]) for key in ("model_problems", "ranks")}
    return Facts(**{**words, **lists})


async def _time(session: Session) -> Clock:
    sent_s = time.time()
    theirs_s = (await session.ask("clock", patience_s=_ASK_S))["time_s"]
    half_s = (time.time() - sent_s) / 2
    return Clock(theirs_s - (sent_s + half_s), half_s)


async def _open(
    session: Session, config: ClusterConfig, found: Found, name: str, word: str
) -> Found:
    """Listen where the host's ranks would, and look at their ports."""
    if found.refusal:
        return found
    host = next(host for host in config.hosts if host.name == name)
    ranks = config.ranks_on(host)
    first = config.ports.data
    pinned = [f"{found.data_ip}:{first + rank}" for rank in ranks] if first else []
    try:
        words = await session.ask("ports", patience_s=_ASK_S, pinned=pinned, count=len(ranks))
        ports = Ports(tuple(words["problems"]), tuple(words["free"]))
        # A pinned port that is free tells more: it may be the only one that a firewall lets pass.
        port = first + ranks[0] if first and not ports.problems else 0
        words = await session.ask(
            "listen", patience_s=_ASK_S, address=found.data_ip, port=port, word=word
        )
        called = await _called(session, host, found, word)
    except DeadlineError as error:
        return replace(found, deaf=str(error))
    if "error" in words:
        return replace(found, ports=ports, deaf=words["error"])
    listening = f"{found.data_ip}:{words['port']}"
    return replace(found, ports=ports, listening=listening, called=called)


async def _called(session: Session, host: Host, found: Found, word: str) -> str | None:
    """Listen where this machine calls the host, if its ranks are on a network of their own."""
    ip = host.address or (found.facts.address if found.facts else None)
    if host.fabric is None or ip is None or ip == host.fabric:
        return None
    words = await session.ask("listen", patience_s=_ASK_S, address=ip, port=0, word=word)
    return None if "error" in words else f"{ip}:{words['port']}"


async def _go(session: Session, found: Mapping[str, Found], name: str, word: str) -> Found:
    """From here to the host, and from the host to all others."""
    own = found[name]
    where = own.called or own.listening
    control = await asyncio.to_thread(_dial_here, where, word) if where else None
    paths = dict[str, Dial]()
    for other, theirs in found.items():
        if other == name or theirs.listening is None:
            continue
        address, _, port = theirs.listening.rpartition(":")
        words = {"address": address, "port": int(port), "word": word, "within_s": _DIAL_S}
        try:
            answer = await session.ask("dial", patience_s=_DIAL_S + _ASK_S, **words)
            paths[other] = Dial(**answer)
        except DeadlineError as error:
            paths[other] = Dial(theirs.listening, str(error))
    return replace(own, control=control, paths=paths)


def _dial_here(where: str, word: str) -> Dial:
    address, _, port = where.rpartition(":")
    return dial(address, int(port), word, _DIAL_S)


def _port_here(config: ClusterConfig) -> tuple[str, ...]:
    """What speaks against the coordinator's port, on the machine that launches."""
    if config.ports.control is None:
        return ()
    return tuple(inspect(InspectRequest(ring=[f"{LOOPBACK}:{config.ports.control}"])).problems)


def _rank_trial(rank: int, words: Mapping[str, Any]) -> RankTrial:
    """What a rank said, or what is said of it."""
    if problem := words.get("problem") or words.get("error"):
        return RankTrial(rank, problem)
    return RankTrial(rank, "", **words)
