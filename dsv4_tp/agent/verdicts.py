"""The words for how a rank was lost."""

from signal import Signals

from dsv4_tp.agent.events import Exited, ReportLost
from dsv4_tp.agent.watch import Watch
from dsv4_tp.core import Loss
from dsv4_tp.errors import RankFailure


def exited(watch: Watch, event: Exited) -> ReportLost:
    """Its process is gone, unasked."""
    code = event.exit_code
    loss, how = Loss.EXITED, f"exited with code {code}"
    if code < 0:
        loss, how = Loss.KILLED, f"killed by {_signal(-code)}"
    elif code == RankFailure.exit_code:
        loss, how = Loss.BEREFT, "could not go on with the other ranks"
    return ReportLost(event.report.rank, loss, f"{how} while {watch.doing}", event.last_stderr)


def stopped(watch: Watch) -> ReportLost:
    """Its process is stopped by a signal."""
    cause = f"stopped by a signal while {watch.doing}"
    return ReportLost(watch.report.rank, Loss.STOPPED, cause)


def stalled(watch: Watch, deadline_s: float) -> ReportLost:
    """It has shown no progress for too long."""
    cause = f"no progress for {deadline_s:g} s while {watch.doing}"
    return ReportLost(watch.report.rank, Loss.STALLED, cause)


def muted(watch: Watch) -> ReportLost:
    """It takes no commands any more, though its process lives."""
    cause = f"closed its control stream while {watch.doing}"
    return ReportLost(watch.report.rank, Loss.EXITED, cause)


def _signal(number: int) -> str:
    names = {signal.value: signal.name for signal in Signals}
    return names.get(number, f"signal {number}")
