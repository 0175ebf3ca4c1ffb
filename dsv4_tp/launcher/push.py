"""Weights to where they are needed: each host is sent its own ranks' files, all hosts at once."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

import grpc

from dsv4_tp.config import ClusterConfig
from dsv4_tp.errors import DeadlineError, Dsv4Error, PreflightError
from dsv4_tp.launcher.agents import Agent, end_agents, kept_alive, on_all, start_agents
from dsv4_tp.launcher.authority import new_authority
from dsv4_tp.launcher.cargo import Cargo, Parcel
from dsv4_tp.launcher.preflight import version_problems
from dsv4_tp.v1 import agent_pb2 as pb

_STILL_S = 30.0  # that a host takes no byte
_STORE_S = 300.0  # until a file of many gigabytes is on the disk
_GO_ON = "repeat the command, it goes on behind the last whole file"

_Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.ReceiveRequest, pb.ReceiveResponse]"
_T = TypeVar("_T")
Watch = Callable[[str, int, int], None]  # a host, bytes that it was sent, and is to be sent


@dataclass(frozen=True, slots=True)
class Sent:
    """What one host was sent."""

    ranks: tuple[int, ...]
    held_bytes: int  # of files that were whole there before
    sent_bytes: int
    seconds: float


def push(config: ClusterConfig, cargo: Cargo, out: Path, watch: Watch) -> dict[str, Sent]:
    """Make `out`, on every host of `config`, a set with the files of that host's ranks.

    `watch` is told of every chunk. Returns what was sent, by host.

    Raises:
        PreflightError: a host cannot be reached or take the files; names it and its reason.
        CheckpointError: the checkpoint cannot be read, or changes meanwhile.
        DeadlineError: a host takes no bytes any more.
        KeyboardInterrupt: SIGINT or SIGTERM; no agent is left.
    """
    try:
        return asyncio.run(_push(config, cargo, out, watch))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _push(config: ClusterConfig, cargo: Cargo, out: Path, watch: Watch) -> dict[str, Sent]:
    loop, main = asyncio.get_running_loop(), asyncio.current_task()
    assert main is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, main.cancel)
    start_s = config.timeouts.start_s
    agents = await start_agents(config.hosts, new_authority("push"), start_s=start_s)

    async def send(agent: Agent) -> Sent:
        return await _Delivery(agent, cargo, config.ranks_on(agent.host), out, watch).run()

    try:
        await _check_versions(agents)
        return await kept_alive(agents, on_all(agents, send))
    finally:
        await end_agents(agents)


async def _check_versions(agents: Sequence[Agent]) -> None:
    facts = await on_all(agents, lambda agent: agent.inspect(pb.InspectRequest()))
    if problems := list(version_problems(facts)):
        raise PreflightError("; ".join(problems))


class _Delivery:
    """All that one host is sent."""

    def __init__(
        self, agent: Agent, cargo: Cargo, ranks: tuple[int, ...], out: Path, watch: Watch
    ) -> None:
        self._agent = agent
        self._host = agent.host.name
        self._cargo = cargo
        self._ranks = ranks
        self._out = out
        self._watch = watch
        self._sent_bytes = 0

    async def run(self) -> Sent:
        """Send what is missing there; see `push` for what it raises."""
        began_s = time.monotonic()
        async with self._agent.service() as stub:
            call = stub.Receive()
            await self._say(call, pb.ReceiveRequest(begin=self._head()))
            parcels = self._cargo.of(self._ranks)
            answer = await self._within(_STORE_S, self._hear(call))
            missing = self._missing(parcels, answer.held)
            total = sum(parcel.nbytes for parcel in missing)
            for parcel in missing:
                await self._send(call, parcel, total)
            await call.done_writing()
        held_bytes = sum(parcel.nbytes for parcel in parcels) - total
        return Sent(self._ranks, held_bytes, total, time.monotonic() - began_s)

    def _head(self) -> pb.SetHead:
        return pb.SetHead(
            path=str(self._out),
            manifest=self._cargo.manifest.to_json(),
            small_files=self._cargo.small_files,
            ranks=self._ranks,
        )

    def _missing(self, parcels: Sequence[Parcel], held: pb.Held) -> list[Parcel]:
        there = {(file.rank, file.name, file.nbytes) for file in held.files}
        missing = [own for own in parcels if (own.rank, own.name, own.nbytes) not in there]
        needed = sum(parcel.nbytes for parcel in missing)
        if needed > held.free_bytes:
            raise PreflightError(
                f"{self._host}: {self._out}: {needed:,} bytes are to be written, "
                f"{held.free_bytes:,} are free; make room there"
            )
        return missing

    async def _send(self, call: _Call, parcel: Parcel, total: int) -> None:
        head = pb.FileHead(rank=parcel.rank, name=parcel.name, nbytes=parcel.nbytes)
        # Heard from the start on: what goes wrong there is said while we still send.
        stored = asyncio.create_task(self._hear(call))
        try:
            await self._say(call, pb.ReceiveRequest(file=head))
            chunks = self._cargo.chunks(parcel)
            while not stored.done() and (chunk := await asyncio.to_thread(next, chunks, None)):
                await self._say(call, pb.ReceiveRequest(chunk=chunk))
                self._sent_bytes += len(chunk.data)
                self._watch(self._host, self._sent_bytes, total)
            await self._within(_STORE_S, stored)
        finally:
            stored.cancel()
            await asyncio.gather(stored, return_exceptions=True)

    async def _say(self, call: _Call, request: pb.ReceiveRequest) -> None:
        try:
            await self._within(_STILL_S, call.write(request))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise self._gone() from error

    async def _hear(self, call: _Call) -> pb.ReceiveResponse:
        """The next answer; raises PreflightError if the agent gave up."""
        try:
            response = await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._gone() from error
        if not isinstance(response, pb.ReceiveResponse):
            raise self._gone()
        if response.HasField("failed"):
            raise PreflightError(f"{self._host}: {response.failed.message}")
        return response

    async def _within(self, limit_s: float, work: Awaitable[_T]) -> _T:
        try:
            return await asyncio.wait_for(work, limit_s)
        except TimeoutError as error:
            message = f"{self._host}: took nothing for {limit_s:g} s; {_GO_ON}"
            raise DeadlineError(message) from error

    def _gone(self) -> Dsv4Error:
        return Dsv4Error(f"{self._host}: the connection to its agent broke; {_GO_ON}")
