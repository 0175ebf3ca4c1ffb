"""One cell of the fault matrix: a fault in a phase, what came of it, and whether that was right."""

import subprocess
import time
from dataclasses import dataclass, field

from tests.cluster.clusters import is_alive
from tests.cluster.harm import FAULTS, reach
from tests.cluster.judging import problems, result, strays, stuck_s, verdict_of
from tests.cluster.watching import GONE, Wish

COLUMNS = (
    *("fault", "phase", "outcome", "detected_s", "asked_s", "gone_s", "ready_s", "load_s"),
    *("stuck_s", "verdict", "client", "epoch", "same_ranks", "orphans", "victim", "slowness"),
)
HARMLESS = ("link flap", "slow link")  # shorter, or quicker, than any deadline
QUIET_S = 3.0  # after a fault that nobody has noticed
BOUND_S = 60.0


@dataclass
class Course:
    """What happens to a cluster from a fault on."""

    fault: str
    phase: str
    harmed_s: float
    epoch: int  # that was harmed
    pids: frozenset[int]  # of its ranks
    said: int  # characters, by the launch before
    wishes: list[Wish] = field(default_factory=list)
    asked_s: float | None = None  # when somebody asked a cluster that was idle
    detected_s: float | None = None
    mended_s: float | None = None
    gone_s: float | None = None
    ready_s: float | None = None
    code: int | None = None  # with which the launch ended by itself
    orphans: int = 0
    same_ranks: bool = False
    hangs: bool = False


def run_cell(cluster, fault, phase, *, unbroken):
    """Harm a cluster and see what comes of it: a line of the results.

    `unbroken` are the tokens that clients should get. A cluster that serves after that still does.
    """
    cluster.aim(f"{fault} x {phase}")
    cluster.watch.forget()
    course = begin(cluster, fault, phase, reach(cluster, phase))
    FAULTS[fault].harm(cluster)
    follow(cluster, course)
    if course.code is None:
        course.orphans = strays(cluster)
        pids = {rank.process.pid for rank in cluster.ranks().values()}
        course.same_ranks = pids == course.pids
    else:
        course.orphans = left(cluster)
    return line(cluster, course, problems(cluster, course, unbroken))


def begin(cluster, fault, phase, *wishes):
    """All that has to be known of a cluster before it is harmed."""
    return Course(
        fault,
        phase,
        time.monotonic(),
        cluster.last.epoch or 1,
        frozenset(rank.process.pid for rank in cluster.ranks().values()),
        len(cluster.said),
        [wish for wish in wishes if wish],
    )


def follow(cluster, course, *, mend_after_s=0.0):
    """Until the cluster serves again and everybody has a text, or it has ended."""
    ends_s = course.harmed_s + BOUND_S * cluster.slowness
    mend = FAULTS[course.fault].mend
    while not _over(cluster, course):
        note(cluster, course)
        if course.detected_s and not course.mended_s:
            if time.monotonic() >= course.detected_s + mend_after_s:
                mend(cluster)
                course.mended_s = time.monotonic()
        elif _is_time_to_ask(cluster, course):
            course.asked_s = course.asked_s or time.monotonic()
            course.wishes.append(cluster.ask())
        if time.monotonic() > ends_s:
            course.hangs = True
            break
        time.sleep(0.03)
    note(cluster, course)
    if not course.mended_s:
        mend(cluster)


def note(cluster, course):
    """Whatever has happened since."""
    if course.detected_s is None:
        course.detected_s = _first_s(cluster, lambda look: _noticed(course, look), course.harmed_s)
    if course.ready_s is None:
        since_s = course.mended_s if course.fault == "coordinator killed" else course.harmed_s
        if since_s is not None:
            course.ready_s = _first_s(cluster, lambda look: _healed(course, look), since_s)
    if course.gone_s is None and not any(map(is_alive, course.pids)):
        course.gone_s = time.monotonic()
    if course.code is None and cluster.ended:
        course.code = cluster.launch.process.returncode
        if course.code and course.detected_s is None:
            course.detected_s = time.monotonic()


def _first_s(cluster, holds, since_s):
    look = cluster.watch.first(holds, since_s=since_s)
    return look and look.at_s


def _noticed(course, look):
    if look.phase == GONE:  # else it has just ended, or not answered at once
        return course.fault == "coordinator killed"
    return look.epoch > course.epoch or look.phase in ("recovering", "failed")


def _healed(course, look):
    return look.ready and (look.epoch > course.epoch or course.fault == "coordinator killed")


def _over(cluster, course):
    if any(wish.ended_s is None for wish in course.wishes):
        return False
    if course.code is not None:
        return course.gone_s is not None
    if course.phase == "drain" and course.fault != "coordinator killed":
        return False  # it is about to end
    since_s = course.ready_s if course.detected_s else course.harmed_s
    quiet = course.detected_s or time.monotonic() - course.harmed_s > QUIET_S * cluster.slowness
    return quiet and since_s is not None and _served_since(course, since_s)


def _served_since(course, since_s):
    """Whether somebody got a text after that moment."""
    return any(wish.whole and wish.ended_s > since_s for wish in course.wishes)


def _is_time_to_ask(cluster, course):
    """Somebody who has no text yet asks when the cluster serves: again, or still."""
    if any(wish.ended_s is None for wish in course.wishes) or not cluster.last.ready:
        return False
    if course.detected_s:
        return course.ready_s is not None and not _served_since(course, course.ready_s)
    quiet = time.monotonic() - course.harmed_s > QUIET_S * cluster.slowness
    return quiet and not _served_since(course, course.harmed_s)


def end(cluster):
    """End a cluster that serves; how many processes and ports are left then, and its exit code."""
    wish = cluster.watch.down()
    try:
        code = cluster.launch.process.wait(timeout=80 * cluster.slowness)
    except subprocess.TimeoutExpired:
        code = f"down does not end it ({wish.error})"
    return left(cluster), code


def left(cluster):
    """How many processes and ports are left of a cluster that has ended, after some time."""
    ends_s = time.monotonic() + 5 * cluster.slowness
    while found := [*cluster.processes(), *_ports(cluster)]:
        if time.monotonic() > ends_s:
            break
        time.sleep(0.1)
    return len(found)


def _ports(cluster):
    return [port for host in cluster.network.hosts for port in cluster.network.ports(host)]


def line(cluster, course, wrong):
    """As COLUMNS has it; seconds since the fault."""
    began = cluster.watch.first(lambda look: look.phase != GONE)
    first = cluster.watch.first(lambda look: look.ready)
    loads = began and first and began.at_s < first.at_s and began.epoch <= 1 == first.epoch
    return {
        "fault": course.fault,
        "phase": course.phase,
        "outcome": f"WRONG: {'; '.join(wrong)}" if wrong else result(course),
        "detected_s": _seconds(course, course.detected_s),
        "asked_s": _seconds(course, course.asked_s),
        "gone_s": _seconds(course, course.gone_s) if course.detected_s else "",
        "ready_s": _seconds(course, course.ready_s),
        "load_s": f"{first.at_s - began.at_s:.2f}" if loads else "",
        "stuck_s": f"{stuck_s(cluster, course):.2f}",
        "verdict": verdict_of(cluster, course),
        "client": " | ".join(wish.error or "whole" for wish in course.wishes),
        "epoch": max((look.epoch for look in cluster.watch.looks), default=0),
        "same_ranks": "yes" if course.same_ranks else "no",
        "orphans": course.orphans,
        "victim": cluster.victim,
        "slowness": cluster.slowness,
    }


def _seconds(course, at_s):
    return "" if at_s is None else f"{at_s - course.harmed_s:.2f}"
