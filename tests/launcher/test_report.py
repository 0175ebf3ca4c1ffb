"""What a launch tells of its cluster as it goes on."""

from dsv4_tp.coordinator import events
from dsv4_tp.launcher.report import progress_line
from tests.coordinator.test_state import HEALS, ready, run


def test_a_restart_by_hand_has_a_reason_too():
    state, _ = run(ready(HEALS), events.Renewed())
    assert progress_line(state) == "recovering: a restart was asked for"
