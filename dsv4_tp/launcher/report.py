"""What a person is told while a cluster starts and runs: one line for each step of it."""

import asyncio
from collections.abc import Callable

from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.state import ClusterState, Phase

_LOOK_S = 0.5


async def report(coordinator: Coordinator, tell: Callable[[str], None]) -> None:
    """Tell of every step until cancelled."""
    told = ""
    noted = 0
    while True:
        state = coordinator.state
        for note in state.notes[noted:]:
            tell(note)
        noted = len(state.notes)
        if (line := progress_line(state)) != told:
            tell(line)
            told = line
        await asyncio.sleep(_LOOK_S)


def progress_line(state: ClusterState) -> str:
    """Where the cluster is; changes only when there is something new to tell."""
    if state.phase is not Phase.LOADING:
        return state.phase.value
    reports = [rank.report for rank in state.ranks.values()]
    total = sum(report.bytes_total for report in reports)
    done = sum(report.bytes_loaded for report in reports)
    # In tenths: a line for every percent would scroll everything else away.
    return f"loading {done * 10 // total * 10} %" if total else "loading"
