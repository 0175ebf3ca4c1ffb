"""The process of one rank as its agent handles it: start it, speak with it, look at it, end it.

Owns the process, its private directory and its control stream; whether the rank is well is
decided in `state`.
"""

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil

from dsv4_tp.agent.ladder import DUMP, DUMP_S, ladder
from dsv4_tp.config.environment import worker_environment
from dsv4_tp.core import RankReport
from dsv4_tp.history import Segments
from dsv4_tp.log import log
from dsv4_tp.rpc.channel import open_local_channel
from dsv4_tp.rpc.progress import read_report
from dsv4_tp.v1.types_pb2 import Command
from dsv4_tp.v1.worker_pb2 import Join, RunRequest, RunResponse, StartRank
from dsv4_tp.v1.worker_pb2_grpc import WorkerServiceStub

_NOT_STARTED = 127  # as a shell says it
_TAIL_BYTES = 8192  # of stderr, for the verdict: the stacks of some threads
_LAST_WORDS_S = 1.0  # to read what a process wrote before it ended
_MUTE_S = 2.0  # between the end of the control stream and that of the process
_PAUSE_S = 0.1  # between two pieces of a stack


@dataclass(frozen=True, slots=True)
class Ears:
    """What a rank's process calls back."""

    said: Callable[[RunResponse], None]
    muted: Callable[[], None]  # the control stream ended, the process did not
    exited: Callable[[int, str], None]  # exit code, the last of stderr; after all it said


class RankProcess:
    """One rank: `run` lives as long as its process."""

    def __init__(
        self,
        start: StartRank,
        *,
        argv: Sequence[str],
        folder: Path,
        record: Segments,
        ears: Ears,
    ) -> None:
        folder.mkdir()
        self._record = record
        self._start = start
        self._socket = folder / "socket"
        self._progress = folder / "progress"
        self._folder = folder
        self._argv = (*argv, "--socket", str(self._socket), "--progress", str(self._progress))
        self._ears = ears
        self._requests: asyncio.Queue[RunRequest | None] = asyncio.Queue()  # None: no more
        self._requests.put_nowait(RunRequest(start=start))
        self._process: Process | None = None
        self._started = asyncio.Event()
        self._gone = asyncio.Event()
        self._tail = b""
        self._heard = asyncio.Event()

    def join(self, nonce: bytes) -> None:
        """Tell the rank to meet the others."""
        self._requests.put_nowait(RunRequest(join=Join(nonce=nonce)))

    def command(self, command: Command) -> None:
        """Pass on a line of the command log."""
        self._requests.put_nowait(RunRequest(command=command))

    def report(self) -> RankReport:
        """The progress page as it is now."""
        return read_report(self._progress, rank=self._start.rank)

    def is_stopped(self) -> bool:
        """Whether a signal has stopped the process."""
        if self._process is None or self._gone.is_set():
            return False
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED
        except psutil.NoSuchProcess:
            return False

    @property
    def pid(self) -> int:
        """Of the process; 0 before it has started."""
        return self._process.pid if self._process else 0

    async def run(self, watch: Callable[[int], None], forget: Callable[[int], None]) -> None:
        """Start the process, relay until it is gone, and tell so; `watch` and `forget` its pid."""
        try:
            process = await self._spawn()
        except OSError as error:
            self._ended()
            self._ears.exited(_NOT_STARTED, str(error))
            return
        watch(process.pid)
        log("rank-started", rank=self._start.rank, pid=process.pid)
        self._process = process
        self._started.set()
        exit_code = await self._relay(process)
        forget(process.pid)
        log("rank-gone", rank=self._start.rank, exit_code=exit_code)
        self._ears.exited(exit_code, self._last_words())

    async def dump(self) -> str:
        """Have the process write its stacks; the last of stderr then, or after `DUMP_S`."""
        self._heard.clear()
        if self._process and not self._gone.is_set():
            with suppress(ProcessLookupError):
                os.kill(self._process.pid, DUMP)  # not what it started: those would end of it
            with suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), DUMP_S - _PAUSE_S)
            await asyncio.sleep(_PAUSE_S)
        return self._last_words()

    async def kill(self) -> bool:
        """Ask the process to end, then make it; whether it is gone."""
        await self._started.wait()
        for rung in ladder(stopped=self.is_stopped()):
            if self._gone.is_set():
                return True
            self._signal(rung.number)
            await self._wait_gone(within_s=rung.patience_s)
        return self._gone.is_set()

    async def _spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            env=worker_environment(self._folder),
            start_new_session=True,  # its own process group: killed with all it started
        )

    async def _relay(self, process: Process) -> int:
        """Pass words on until the process is gone and all it said is read; its exit code."""
        async with asyncio.TaskGroup() as group:
            relays = [group.create_task(self._talk()), group.create_task(self._listen(process))]
            exit_code = await process.wait()
            self._signal(signal.SIGKILL)  # whatever it started, such as a compiler
            self._ended()
            if not self._socket.exists():  # it never came to speak
                relays[0].cancel()
            _, late = await asyncio.wait(relays, timeout=_LAST_WORDS_S)
            for relay in late:
                relay.cancel()
        return exit_code

    def _ended(self) -> None:
        self._started.set()
        self._gone.set()

    async def _wait_gone(self, *, within_s: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._gone.wait(), within_s)
        return self._gone.is_set()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        # macOS denies the permission to signal a group of the dead.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _talk(self) -> None:
        """The control stream. A worker that is not up in time is caught by its deadline."""
        async with open_local_channel(self._socket) as channel:
            call = WorkerServiceStub(channel).Run(self._asked(), wait_for_ready=True)
            try:
                async for response in call:
                    self._ears.said(response)
            except grpc.aio.AioRpcError as error:
                log("stream-broken", rank=self._start.rank, details=error.details())
            finally:
                # A call that has ended leaves the task that asks us for requests to wait for ever.
                self._requests.put_nowait(None)
        if not await self._wait_gone(within_s=_MUTE_S):
            self._ears.muted()

    async def _asked(self) -> AsyncIterator[RunRequest]:
        while request := await self._requests.get():
            yield request

    async def _listen(self, process: Process) -> None:
        """Keep stderr, and the last of it for the verdict."""
        assert process.stderr is not None
        with closing(self._record) as record:
            while chunk := await process.stderr.read(_TAIL_BYTES):
                self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
                record.write(chunk)
                self._heard.set()

    def _last_words(self) -> str:
        return self._tail.decode(errors="replace").strip()
