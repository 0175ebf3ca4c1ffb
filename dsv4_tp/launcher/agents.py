"""Agents: started by ssh or as a plain process, inspected, and ended if nobody else did it.

A remote agent detaches itself, so that no ssh stays open for it; one on this machine is our
child, or that of an earlier launch. Either way it hears over stdin who it is.
"""

import asyncio
import os
import shlex
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypedDict, TypeVar, cast

import grpc

from dsv4_tp.config import Host
from dsv4_tp.config.remote import SSH_FAILED, command_on, end, heard, last_words
from dsv4_tp.coordinator.link import end_agent
from dsv4_tp.coordinator.setup import CABLES_S
from dsv4_tp.errors import Dsv4Error, PreflightError
from dsv4_tp.launcher.authority import Authority
from dsv4_tp.rpc.auth import Identity, written
from dsv4_tp.rpc.channel import open_agent_channel
from dsv4_tp.rpc.lives import is_alive
from dsv4_tp.rpc.server import LOOPBACK
from dsv4_tp.rpc.status import calling, error_of
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceStub

if TYPE_CHECKING:
    from dsv4_tp.v1.agent_pb2_grpc import AgentServiceAsyncStub

_T = TypeVar("_T")

_INSPECT_S = 15.0
_ALIVE_S = 5.0  # between two signs of life; an agent does without for 30 s
_LOOK_S = 0.05


class _Announcement(TypedDict):
    """What an agent says when it serves."""

    port: int
    pid: int
    address: str | None  # where ssh reached it
    launcher: str | None  # from where


@dataclass(frozen=True, slots=True)
class Orphan:
    """An agent on this machine that is not our child, but that of a launch which was killed."""

    pid: int
    started_s: float  # numbers are given again

    async def wait(self) -> None:
        """Return when it is gone."""
        while True:
            if not is_alive(self.pid, self.started_s):
                return
            await asyncio.sleep(_LOOK_S)

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Make it end; its guard then ends the ranks."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if is_alive(self.pid, self.started_s):
            os.kill(self.pid, number)


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent."""

    host: Host
    address: str  # HOST:PORT of its service
    data_ip: str | None  # where its ranks listen; None: this machine, wherever others reach it
    launcher_ip: str | None  # where this host reaches us; None on this machine
    identity: Identity  # ours, when we call it
    process: "Process | Orphan | None"  # None: not on this machine

    async def inspect(self, request: pb.InspectRequest) -> pb.InspectResponse:
        """The facts of its host; PreflightError if it does not answer."""
        try:
            with calling(f"the agent on {self.host.name}"):
                async with self._channel() as channel:
                    stub = AgentServiceStub(channel)
                    patience_s = _INSPECT_S + (CABLES_S if request.cables else 0)
                    return await stub.Inspect(request, timeout=patience_s)
        except Dsv4Error as error:
            advice = f"does a firewall close {self.address}?"
            raise PreflightError(f"{error}; {advice}") from error

    @asynccontextmanager
    async def service(self) -> "AsyncGenerator[AgentServiceAsyncStub]":
        """Calls to it within the block.

        Raises:
            PreflightError: a call fails; names the host.
        """
        try:
            async with self._channel() as channel:
                yield AgentServiceStub(channel)
        except grpc.aio.AioRpcError as error:
            said = error_of(error, "its agent")
            raise PreflightError(f"{self.host.name}: {said}") from error

    async def end(self) -> None:
        """End it and what it started; one that does not answer ends by its fence."""
        async with self._channel() as channel:
            await end_agent(channel, host=self.host.name)
        await self.reap()

    async def reap(self) -> None:
        """See that a dismissed agent is gone, if it is on this machine."""
        if self.process is not None:
            await end(self.process)

    def _channel(self) -> grpc.aio.Channel:
        return open_agent_channel(self.address, self.host.name, self.identity)


async def start_agents(
    hosts: Iterable[Host], authority: Authority, *, start_s: float
) -> list[Agent]:
    """Start an agent on every host at once, each within `start_s`; on failure all are ended.

    One that was only about to start on another host when we were interrupted ends by itself.

    Raises:
        PreflightError: one could not be started; names the host and what to try.
    """
    starts = [asyncio.create_task(_start(host, authority, start_s)) for host in hosts]
    keeping = [asyncio.create_task(_keep(start)) for start in starts]
    try:
        # All of them, since one that is just starting could not be told to end.
        await asyncio.wait(starts)
        return [start.result() for start in starts]
    except BaseException:
        for start in starts:
            start.cancel()
        results = await asyncio.gather(*starts, return_exceptions=True)
        await end_agents(result for result in results if isinstance(result, Agent))
        raise
    finally:
        for keep in keeping:
            keep.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


async def kept_alive(agents: Sequence[Agent], work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work` while no coordinator holds these agents; none of them ends by itself meanwhile.

    Raises:
        PreflightError: one was lost, which ends the work.
    """
    working, keeping = asyncio.create_task(work), asyncio.create_task(_keep_alive(agents))
    try:
        await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else keeping.result()
    finally:
        working.cancel()
        keeping.cancel()
        await asyncio.wait({working, keeping})


async def on_all(
    agents: Sequence[Agent], work: Callable[[Agent], Coroutine[Any, Any, _T]]
) -> dict[str, _T]:
    """Do `work` with all agents at once; by the host's name. The first failure ends the rest."""
    tasks = {agent.host.name: asyncio.create_task(work(agent)) for agent in agents}
    try:
        await asyncio.gather(*tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.wait(tasks.values())
    return {name: task.result() for name, task in tasks.items()}


async def end_agents(agents: Iterable[Agent]) -> None:
    """End all of them at once."""
    await asyncio.gather(*(agent.end() for agent in agents))


def command_line(host: Host) -> list[str]:
    """The command that starts the agent of `host`."""
    own = [host.python, "-m", "dsv4_tp", "agent", "--port=0"]
    if host.is_local:
        return command_on(host, [*own, f"--bind={LOOPBACK}"])
    place = [f"--bind={host.address}"] if host.address else []
    return command_on(host, [*own, *place, "--detach"])


async def _start(host: Host, authority: Authority, start_s: float) -> Agent:
    process = await _spawn(host)
    try:
        words = await asyncio.wait_for(_introduce(host, process, authority), start_s)
    except TimeoutError as error:
        await end(process)
        raise _too_slow(host, start_s) from error
    except ValueError as error:  # a line without an end
        await end(process)
        raise PreflightError(f"{host.name}: its login shell says too much: {error}") from error
    except BaseException:
        await end(process)
        raise
    if not host.is_local:
        await end(process)  # the ssh, which has done its work
    ip = host.address or words["address"]
    return Agent(
        host=host,
        address=f"{LOOPBACK if host.is_local else ip}:{words['port']}",
        data_ip=host.data_ip or (None if host.is_local else ip),
        launcher_ip=None if host.is_local else words["launcher"],
        identity=authority.coordinator(),
        process=process if host.is_local else None,
    )


async def _keep(start: "asyncio.Task[Agent]") -> None:
    """Speak to an agent that serves, while others have yet to: alone it would end by itself."""
    agent = await asyncio.shield(start)
    await asyncio.sleep(_ALIVE_S)
    await _keep_alive([agent])


async def _keep_alive(agents: Sequence[Agent]) -> NoReturn:
    while True:
        await asyncio.gather(*(agent.inspect(pb.InspectRequest()) for agent in agents))
        await asyncio.sleep(_ALIVE_S)


async def _spawn(host: Host) -> Process:
    command = command_line(host)
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd=host.workdir if host.is_local else None,
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
    except OSError as error:
        raise PreflightError(f"{host.name}: {error.filename}: {error.strerror}") from error


async def _introduce(host: Host, process: Process, authority: Authority) -> _Announcement:
    """Tell the agent who it is and wait until it serves."""
    assert process.stdin is not None
    with suppress(ConnectionError):  # it has ended; its stderr says why
        process.stdin.write(f"{written(authority.agent(host.name))}\n".encode())
        await process.stdin.drain()
        process.stdin.close()
    if words := await heard(process, _Announcement.__annotations__):
        return cast(_Announcement, words)
    raise await _no_agent(host, process)


def _too_slow(host: Host, start_s: float) -> PreflightError:
    """Nothing has failed yet, but it was waited for long enough."""
    way = "" if host.is_local else f"ssh {host.ssh}, then "
    waited = f"waited {start_s:g} s for its agent to serve ({way}{host.python} -m dsv4_tp agent)"
    advice = f"raise timeouts.start_s if it is only slow, or {_try(host)}"
    return PreflightError(f"{host.name}: {waited}; {advice}")


def _try(host: Host) -> str:
    return f"try there: {shlex.join([host.python, '-m', 'dsv4_tp', '--version'])}"


async def _no_agent(host: Host, process: Process) -> PreflightError:
    """Why there is none, in the words of ssh or of the agent."""
    said = await last_words(process)
    if await process.wait() == SSH_FAILED and not host.is_local:
        advice = f"try: ssh -o BatchMode=yes {host.ssh} true"
        return PreflightError(f"{host.name}: cannot be reached by ssh: {said}; {advice}")
    return PreflightError(f"{host.name}: the agent did not start: {said}; {_try(host)}")
