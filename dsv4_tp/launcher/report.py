"""What a person is told while a cluster starts and runs: one line for each step of it."""

import asyncio
from collections.abc import Callable

from dsv4_tp.coordinator.cluster import ClusterState, Phase, failure
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.setup import Setup
from dsv4_tp.core import Backend

_LOOK_S = 0.5

Watch = Callable[[int, int], None]  # bytes that all ranks have loaded, and will have


class Report:
    """Tells of every step of a cluster, each once."""

    def __init__(
        self,
        coordinator: Coordinator,
        tell: Callable[[str], None],
        on_loaded: Watch | None = None,
    ) -> None:
        """`on_loaded` is told how far the weights are, in place of lines that say it."""
        self._coordinator = coordinator
        self._on_loaded = on_loaded
        self._tell = tell
        self._told = ""
        self._notes = 0

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_S)

    def look(self) -> None:
        """Tell what is new since the last look."""
        state = self._coordinator.state
        for note in state.notes[self._notes :]:
            self._tell(note)
        self._notes = len(state.notes)
        done, total = loaded_bytes(state)
        if self._on_loaded and total:
            self._on_loaded(done, total)
        elif (line := progress_line(state)) != self._told:
            self._tell(line)
            self._told = line


def progress_line(state: ClusterState) -> str:
    """Where the cluster is; changes only when there is something new to tell."""
    if state.phase is Phase.RECOVERING:
        return f"recovering: {failure(state) or 'a restart was asked for'}"
    if state.phase is not Phase.LOADING:
        return state.phase.value
    done, total = loaded_bytes(state)
    # In tenths: a line for every percent would scroll everything else away.
    return f"loading {done * 10 // total * 10} %" if total else "loading"


def loaded_bytes(state: ClusterState) -> tuple[int, int]:
    """So many of so many that all ranks hold; none where they are not loading."""
    if state.phase is not Phase.LOADING:
        return 0, 0
    reports = [rank.report for rank in state.ranks.values()]
    loaded = sum(report.bytes_loaded for report in reports)
    return loaded, sum(report.bytes_total for report in reports)


def summary(setup: Setup) -> str:
    """How many ranks run where, for people."""
    hosts = ", ".join(setup.hosts[rank] for rank in sorted(setup.hosts))
    count = "1 rank" if len(setup.parts) == 1 else f"{len(setup.parts)} ranks"
    by = "" if setup.backend is Backend.RING else f", joined by {setup.backend}"
    return f"{count} in {setup.dtype} on {hosts}{by}"
