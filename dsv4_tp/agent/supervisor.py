"""The agent's one loop of deciding and doing: events go through `state`, actions are done here.

Owns the processes of the epoch, their guard and the queue of what the coordinator is told.
"""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dsv4_tp.agent import events, quarantine
from dsv4_tp.agent.guard import Guard
from dsv4_tp.agent.host import HostState
from dsv4_tp.agent.ledger import Ledger
from dsv4_tp.agent.memory import kept
from dsv4_tp.agent.process import Ears, RankProcess
from dsv4_tp.agent.pulse import Pulse
from dsv4_tp.agent.records import Records
from dsv4_tp.agent.state import step
from dsv4_tp.agent.watch import slowness
from dsv4_tp.core import RankReport
from dsv4_tp.errors import PreflightError
from dsv4_tp.log import log
from dsv4_tp.rpc.convert import link_to_proto, loss_to_proto, report_to_proto
from dsv4_tp.rpc.health import Health
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.worker_pb2 import RunResponse, StartRank

FIRST_SESSION_S = 30.0  # an agent that no coordinator speaks to ends by itself
_BEAT_S = 0.5  # until a coordinator says otherwise


class Supervisor:
    """Runs the ranks of one host. `outbox` is for the coordinator; None is its end."""

    def __init__(
        self,
        *,
        worker_argv: Sequence[str],
        folder: Path,
        guard: Guard,
        health: Health,
        records: Records,
    ) -> None:
        self._worker_argv = worker_argv
        self._records = records
        self._folder = folder
        self._guard = guard
        self._health = health
        self._state = HostState(
            lease_ends_s=time.monotonic() + FIRST_SESSION_S, fence_s=FIRST_SESSION_S
        )
        self._beat_s = _BEAT_S
        self._starts: dict[int, StartRank] = {}
        self._ledger = Ledger()  # of the epoch
        self._chunk_tokens = 0  # of a prompt, at a time
        self._ranks: dict[int, RankProcess] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._host = ""  # what the cluster calls this one
        self.pulse = Pulse()
        self.outbox: asyncio.Queue[pb.SessionResponse | None] = asyncio.Queue()
        self.left = asyncio.Event()

    def greet(self, hello: pb.Hello) -> None:
        """A session begins."""
        self._beat_s, self._host = hello.beat_s, hello.host
        self._feed(events.Greeted(time.monotonic(), hello.fence_s, hello.beat_s))

    def beat(self) -> None:
        """The coordinator lives."""
        self._feed(events.Beaten(time.monotonic()))

    def stand(self) -> pb.AdoptResponse:
        """What runs here, for another coordinator, which hears all that happens from now on."""
        self.beat()
        if not self.left.is_set():
            self.outbox = asyncio.Queue()
        return self._ledger.standing(self._state, self._reports())

    def start(self, message: pb.StartEpoch) -> None:
        """Start the epoch's ranks; PreflightError if the epoch is stale or another one runs."""
        busy = self._state.ranks or self._state.gone
        if busy or message.epoch <= self._state.epoch:
            raise PreflightError(f"epoch {message.epoch} cannot follow {self._state.epoch} here")
        ranks = tuple(start.rank for start in message.ranks)
        self._starts = {start.rank: start for start in message.ranks}
        self._ledger = Ledger()
        self._chunk_tokens = max((start.prefill_chunk for start in message.ranks), default=0)
        self.pulse.begin(self._host, message.pulses)
        deadlines = message.deadlines
        # A snapshot that is written to a disk takes as long as the disk takes.
        learned = not any(start.prefixes_on_disk for start in message.ranks)
        limits = events.Deadlines(deadlines.join_s, deadlines.load_s, deadlines.step_s, learned)
        known = kept(), quarantine.known()
        self._feed(events.Started(time.monotonic(), message.epoch, ranks, limits, *known))

    def join(self, message: pb.JoinEpoch) -> None:
        """Have all ranks of this epoch meet the others; one that is being ended meets nobody."""
        if message.epoch != self._state.epoch or self._state.halting:
            return
        for process in self._ranks.values():
            process.join(message.nonce)

    def command(self, message: pb.EpochCommand) -> None:
        """Pass a command on to all ranks of its epoch; one of another epoch is too late."""
        if message.epoch != self._state.epoch:
            return
        match message.command.WhichOneof("action"):
            case "generate":
                self._hand_out(message.command.generate.id, self._chunk_tokens)
            case "score":
                job = message.command.score
                fed = sum(min(len(row.ids), job.chunk or len(row.ids)) for row in job.rows)
                self._hand_out(job.id, fed)
            case "drain":
                self._feed(events.Drained())
            case _:
                pass
        self._ledger.passed(message.command)
        for process in self._ranks.values():
            process.command(message.command)

    def _hand_out(self, request_id: str, chunk_tokens: int) -> None:
        self._feed(events.Tasked(time.monotonic(), request_id, chunk_tokens))

    def halt(self, epoch: int, *, explain: bool = False) -> None:
        """End the epoch, if it still is the current one; `explain` what stands still here."""
        if epoch == self._state.epoch:
            self._feed(events.Halted(self._stopped(), explain))

    def dismiss(self, reason: str, *, ordered: bool = False) -> None:
        """End the epoch and the agent."""
        self._feed(events.Dismissed(reason, ordered))

    async def run(self) -> None:
        """Look at the ranks and the clock at every beat until the agent is to end."""
        while not self.left.is_set():
            self._records.turn()
            self._sample()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.left.wait(), self._beat_s)
        self.pulse.close()

    def _sample(self) -> None:
        """One look, told to the coordinator; the guard hears that we are not stuck."""
        reports = self._reports()
        self._guard.beat(self._state.fence_s)
        # The ranks are here until the epoch is told to have stopped.
        noted = (self._noted(report) for report in reports)
        named = (*noted, *self._state.gone)
        links = map(link_to_proto, self.pulse.links(met_s=self._state.met_s))
        self._tell(beat=pb.HostBeat(ranks=map(report_to_proto, named), links=links))
        self._feed(events.Sampled(time.monotonic(), reports, self._stopped()))

    def _reports(self) -> tuple[RankReport, ...]:
        return tuple(process.report() for process in self._ranks.values())

    def _noted(self, report: RankReport) -> RankReport:
        """The report with what is remarkable about it."""
        watch = self._state.ranks.get(report.rank)
        if watch is None or watch.report != report:
            return report
        return replace(report, note=slowness(watch, time.monotonic()))

    def _feed(self, event: events.Event) -> None:
        well = self._state.well
        self._state, actions = step(self._state, event)
        for rank in well ^ self._state.well:
            self._health.set_rank(rank, serving=rank in self._state.well)
        for action in actions:
            self._do(action)

    def _do(self, action: events.Action) -> None:
        match action:
            case events.Spawn(rank=rank):
                self._spawn(rank)
            case events.Dump(ranks=ranks):
                self._task(self._dump(ranks))
            case events.Kill(rank=rank):
                self._task(self._kill(rank, self._ranks[rank]))
            case events.ReportLost():
                self._report(action)
            case events.Measure():
                self._feed(events.MemorySeen(time.monotonic(), kept().nbytes))
            case events.ReportStopped():
                self._report_stopped(action)
            case events.Condemn(reason=reason, pid=pid):
                quarantine.keep(reason, pid)
            case events.Leave(reason=reason):
                self._leave(reason)

    def _spawn(self, rank: int) -> None:
        epoch = self._state.epoch
        process = RankProcess(
            self._starts[rank],
            argv=self._worker_argv,
            folder=self._folder / f"epoch-{epoch}-rank-{rank}",
            record=self._records.rank(epoch, rank),
            ears=Ears(
                said=partial(self._said, rank),
                muted=lambda: self._feed(events.Muted(rank)),
                exited=partial(self._exited, rank),
            ),
        )
        self._ranks[rank] = process
        self._task(process.run(self._guard.watch, self._guard.forget))

    async def _dump(self, ranks: Iterable[int]) -> None:
        """Have ranks write down where they are, all at once."""
        asked = {rank: self._ranks[rank] for rank in ranks if rank in self._ranks}
        words = await asyncio.gather(*(process.dump() for process in asked.values()))
        said = dict(zip(asked, words, strict=True))
        self._feed(events.Dumped(said, self._stopped()))

    async def _kill(self, rank: int, process: RankProcess) -> None:
        if not await process.kill():
            self._feed(events.Outlived(rank, process.pid))

    def _leave(self, reason: str) -> None:
        log("agent-leaves", reason=reason)
        self.outbox.put_nowait(None)
        self.left.set()

    def _said(self, rank: int, response: RunResponse) -> None:
        """Pass on what a rank says."""
        self._ledger.said(rank, response)
        match response.WhichOneof("kind"):
            case "prepared":
                self._tell(prepared=pb.RankPrepared(rank=rank, prepared=response.prepared))
            case "joined":
                self._tell(joined=pb.RankJoined(rank=rank))
            case "ready":
                self._tell(ready=pb.RankReady(rank=rank, ready=response.ready))
            case "event":
                if response.event.HasField("finish"):
                    self._feed(events.Finished(rank, response.event.finish.request_id))
                    self._sample()  # what a request counted is known before its end is
                self._tell(event=pb.RankEvent(rank=rank, event=response.event))
            case "refused":
                message = response.refused.message
                self._tell(refused=pb.RankRefused(rank=rank, message=message))
                self.halt(self._state.epoch)
            case None:
                log("unknown-words", rank=rank)

    def _exited(self, rank: int, exit_code: int, last_stderr: str) -> None:
        report: RankReport = self._ranks.pop(rank).report()
        self._feed(events.Exited(report, exit_code, last_stderr))

    def _report(self, lost: events.ReportLost) -> None:
        log("rank-lost", rank=lost.rank, cause=lost.cause)
        for line in lost.last_stderr.splitlines():
            log("stderr", rank=lost.rank, line=line)
        exited = pb.RankExited(
            rank=lost.rank,
            loss=loss_to_proto(lost.loss),
            cause=lost.cause,
            last_stderr=lost.last_stderr,
        )
        self._tell(exited=exited)

    def _report_stopped(self, stopped: events.ReportStopped) -> None:
        log("epoch-stopped", returned=stopped.returned_bytes, quarantine=stopped.quarantine)
        told = pb.EpochStopped(returned_bytes=stopped.returned_bytes, quarantine=stopped.quarantine)
        self._tell(stopped=told)

    def _tell(self, **kind: Any) -> None:
        self.outbox.put_nowait(pb.SessionResponse(epoch=self._state.epoch, **kind))

    def _stopped(self) -> frozenset[int]:
        return frozenset(rank for rank, process in self._ranks.items() if process.is_stopped())

    def _task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; a bug in it ends the agent."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log("agent-bug", error=repr(error))
            self.dismiss(f"a bug: {error!r}")
