"""One cell of the fault matrix: a fault in a phase, what came of it, and whether that was right."""

import json
import re
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

from tests.cluster.clusters import is_alive
from tests.cluster.harm import FAULTS, Harmed
from tests.cluster.watching import GONE

COLUMNS = (
    "fault",
    "phase",
    "outcome",
    "detected_s",
    "gone_s",
    "ready_s",
    "load_s",
    "verdict",
    "client",
    "epoch",
    "orphans",
    "seed",
    "slowness",
)
DOING = {
    "init": "(starting|waiting for the others to prepare|joining the other ranks)",
    "load": "loading",
    "prefill": "reading a prompt",
    "decode": "decoding",
    "idle": "(idle|taking a request)",
    "drain": "decoding",
}
AGENT_LOST = "(no sign of its agent|its agent is gone)"  # the lease, or gRPC's own, is over
CAUSE = {
    "KILL": "killed by SIGKILL while {doing}",
    "STOP": "stopped by a signal while {doing}",
    "exit 1": "exited with code 1 while {doing}",
    "exit 0": "exited with code 0 while {doing}",
    "SEGV": "killed by SIGSEGV while {doing}",
    "GIL held": "no progress for .* while {doing}",
    "exception on one rank": "exited with code 1 while {doing}.*as a test has planted it",
    "control link down": AGENT_LOST,
    "host gone": AGENT_LOST,
    "agent killed": "its agent is gone",
    # Nobody looks at the way between two hosts by itself yet.
    "data link down": "(no progress for|exited with code|killed by SIGALRM)",
}
HARMLESS = ("link flap", "slow link")  # shorter, or quicker, than any deadline
IDLE_S = 3.0  # before a client asks a cluster that has shown nothing
CLIENT_ERROR = re.compile(r"^dsv4-tp: error: .+$", re.MULTILINE)


@dataclass
class Course:
    """What happened in a cell."""

    harmed_s: float
    epoch: int  # that was harmed
    pids: set[int]  # of its ranks
    client: subprocess.Popen | None
    detected_s: float | None = None
    gone_s: float | None = None
    ready_s: float | None = None
    answered_s: float | None = None
    ended_s: float | None = None
    answer: str = "none"
    said: str = ""  # what the launch wrote to stderr, when it ended by itself
    problems: list[str] = field(default_factory=list)


def unbroken_text(folder, model_dir):
    """The tokens that a cluster tells which nothing happens to."""
    with Harmed(folder, model_dir, "unbroken") as cluster:
        cluster.reach("idle")
        out, err = cluster.ask().communicate(timeout=60 * cluster.slowness)
        assert out, err
        return json.loads(out)["tokens"]


def run_cell(fault, phase, *, folder, model_dir, unbroken):
    """A line of the results; `unbroken` are the tokens that the client should get."""
    seed = f"{fault} x {phase}"
    with Harmed(folder, model_dir, seed) as cluster:
        client = cluster.reach(phase)
        pids = {rank.process.pid for rank in cluster.ranks().values()}
        course = Course(time.monotonic(), cluster.watch.last.epoch or 1, pids, client)
        FAULTS[fault].harm(cluster)
        follow(cluster, course, FAULTS[fault].mend)
        course.answer = answer_of(course, unbroken)
        orphans = leave(cluster, course)
        judge(cluster, course, fault, phase, orphans)
        return line(cluster, course, fault, phase, orphans) | {"seed": seed}


def follow(cluster, course, mend):
    """Until the cluster serves again and has answered, or has ended."""
    ends_s = time.monotonic() + 60 * cluster.slowness
    mended = False
    while not _over(cluster, course):
        note(cluster, course)
        if course.detected_s and not mended:
            mend(cluster)
            mended = True
        if course.client is None and _asks(cluster, course):
            course.client = cluster.ask()
        if time.monotonic() > ends_s:
            course.problems.append("it hangs")
            break
        time.sleep(0.05)
    note(cluster, course)
    if not mended:
        mend(cluster)


def note(cluster, course):
    """Whatever has happened since."""
    now_s = time.monotonic()
    course.detected_s = course.detected_s or _seen_s(cluster, course, _noticed)
    course.ready_s = course.ready_s or _seen_s(cluster, course, _healed)
    if course.gone_s is None and not any(map(is_alive, course.pids)):
        course.gone_s = now_s
    if course.client and course.answered_s is None and course.client.poll() is not None:
        course.answered_s = now_s
    if course.ended_s is None and cluster.launch.process.poll() is not None:
        course.ended_s = now_s


def _seen_s(cluster, course, holds):
    """When it was seen first after the fault, if it was."""
    look = cluster.watch.first(partial(holds, course), since_s=course.harmed_s)
    return look and look.at_s


def _healed(course, look):
    return look.serving and look.epoch > course.epoch


def _noticed(course, look):
    return look.epoch > course.epoch or look.phase in ("recovering", "failed", GONE)


def _over(cluster, course):
    answered = course.client is not None and course.answered_s is not None
    if course.ended_s is not None:
        return (course.client is None or answered) and course.gone_s is not None
    return answered and (course.detected_s is None or course.ready_s is not None)


def _asks(cluster, course):
    """Somebody who has no text yet asks when the cluster serves: again, or still."""
    if course.detected_s:
        return course.ready_s is not None
    waited_s = time.monotonic() - course.harmed_s
    return cluster.watch.last.serving and waited_s > IDLE_S * cluster.slowness


def answer_of(course, unbroken):
    """What the client has got, in words."""
    if course.client is None:
        return "none"
    with suppress(subprocess.TimeoutExpired):
        out, err = course.client.communicate(timeout=1)
        if course.client.returncode == 0:
            return "whole" if json.loads(out)["tokens"] == unbroken else "DIFFERENT"
        found = CLIENT_ERROR.findall(err)
        told = found[-1] if found and "Traceback" not in err else f"UNTYPED {err[-300:]}"
        return f"{course.client.returncode} {told}"
    return "HANGS"


def leave(cluster, course):
    """End what still runs; how many processes and ports are left after that."""
    if course.ended_s is None:
        cluster.popen("down").communicate(timeout=60 * cluster.slowness)
    try:
        _, _, course.said = cluster.launch.finish(timeout_s=80)
    except subprocess.TimeoutExpired:
        course.problems.append("down does not end it")
    ends_s = time.monotonic() + 5 * cluster.slowness
    while left := _left(cluster.network):
        if time.monotonic() > ends_s:
            break
        time.sleep(0.1)
    return len(left)


def _left(network):
    return [x for host in network.hosts for x in (*network.processes(host), *network.ports(host))]


def verdict_of(cluster, course):
    """What the cluster said of the fault: in its status, or when it ended."""
    told = [look.failure for look in cluster.watch.looks if look.failure]
    errors = [line for line in course.said.splitlines() if "error: " in line]
    return next(iter((*told, *errors)), "")


def judge(cluster, course, fault, phase, orphans):
    """All that was not as promised."""
    verdict = f"{verdict_of(cluster, course)} {course.said}"
    if cause := CAUSE.get(fault):
        whom = "" if fault == "data link down" else f"ranks? {cluster.victim} on {cluster.host}: "
        pattern = whom + cause.format(doing=DOING[phase])
        course.problems += [] if re.search(pattern, verdict, re.DOTALL) else ["verdict"]
    course.problems += ["orphans"] if orphans else []
    if course.detected_s and course.gone_s is None:
        course.problems.append("ranks left")
    if any(word in course.answer for word in ("DIFFERENT", "UNTYPED", "HANGS")):
        course.problems.append("client")
    if fault in HARMLESS and course.detected_s and phase != "drain":
        course.problems.append("false alarm")
    lies = _lies(cluster, course)
    course.problems += lies


def _lies(cluster, course):
    """Where readiness was not what a client met."""
    failed = course.answered_s is not None and course.answer != "whole"
    early = failed and (course.detected_s is None or course.detected_s > course.answered_s)
    detected_s = course.detected_s or float("inf")
    stale = cluster.watch.first(
        lambda look: look.serving and look.epoch == course.epoch, since_s=detected_s + 0.2
    )
    return [*(["an error before not ready"] if early else []), *(["ready late"] if stale else [])]


def _seconds(course, at_s):
    return "" if at_s is None else f"{at_s - course.harmed_s:.2f}"


def line(cluster, course, fault, phase, orphans):
    """As COLUMNS has it; seconds since the fault."""
    began = cluster.watch.first(lambda look: look.epoch > 0)
    first = cluster.watch.first(lambda look: look.serving and look.epoch == began.epoch)
    if course.ready_s is not None:
        result = "healed"
    elif course.ended_s is not None:
        result = "ended" if course.detected_s else "drained"
    else:
        result = "unharmed"
    return {
        "fault": fault,
        "phase": phase,
        "outcome": f"WRONG: {', '.join(course.problems)}" if course.problems else result,
        "detected_s": _seconds(course, course.detected_s),
        "gone_s": _seconds(course, course.gone_s) if course.detected_s else "",
        "ready_s": _seconds(course, course.ready_s),
        "load_s": f"{first.at_s - began.at_s:.2f}" if first else "",
        "verdict": verdict_of(cluster, course),
        "client": course.answer,
        "epoch": cluster.watch.last.epoch or max(look.epoch for look in cluster.watch.looks),
        "orphans": orphans,
        "slowness": f"{cluster.slowness:.1f}",
    }
