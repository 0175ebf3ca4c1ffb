"""What another coordinator has to know of the epoch that runs here, should its own be lost."""

from collections import deque
from collections.abc import Iterable

from dsv4_tp.agent.host import HostState
from dsv4_tp.core import RankReport
from dsv4_tp.rpc.convert import report_to_proto
from dsv4_tp.v1.agent_pb2 import AdoptResponse, RankStanding
from dsv4_tp.v1.types_pb2 import Command
from dsv4_tp.v1.worker_pb2 import Prepared, Ready, RunResponse

# Agents of one cluster are apart by what was on its way when the coordinator died: a few commands.
_MOST, _MOST_BYTES = 64, 16 << 20


class Ledger:
    """What was passed on to the ranks of one epoch, and what they said before they served."""

    def __init__(self) -> None:
        self._prepared: dict[int, Prepared] = {}
        self._ready: dict[int, Ready] = {}
        self._passed = 0
        self._last: deque[Command] = deque()
        self._last_bytes = 0

    def passed(self, command: Command) -> None:
        """The ranks were given this line of the log."""
        self._passed = command.number
        self._last.append(command)
        self._last_bytes += command.ByteSize()
        while len(self._last) > _MOST or self._last_bytes > _MOST_BYTES:
            self._last_bytes -= self._last.popleft().ByteSize()

    def said(self, rank: int, response: RunResponse) -> None:
        """A rank has said this."""
        if response.HasField("prepared"):
            self._prepared[rank] = response.prepared
        elif response.HasField("ready"):
            self._ready[rank] = response.ready

    def standing(self, state: HostState, reports: Iterable[RankReport]) -> AdoptResponse:
        """What can be gone on with; ranks that are to leave, or are not well, are not named."""
        leaving = state.draining or state.leaving or state.quarantine
        able = frozenset[int]() if leaving else state.well & self._ready.keys()
        owed = {name for watch in state.ranks.values() for name in watch.owed}
        return AdoptResponse(
            epoch=state.epoch,
            ranks=(self._rank(report) for report in reports if report.rank in able),
            commands=self._passed,
            last=self._last,
            owed=sorted(owed),
        )

    def _rank(self, report: RankReport) -> RankStanding:
        return RankStanding(
            report=report_to_proto(report),
            prepared=self._prepared[report.rank],
            ready=self._ready[report.rank],
        )
