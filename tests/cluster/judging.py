"""Whether a cluster kept its promises after a fault: the words it used, and what it left."""

import re
import time
from collections import Counter
from contextlib import suppress
from itertools import groupby

import psutil

from tests.cluster.field import HOSTS, TIMEOUTS

DOING = {
    "init": "(starting|waiting for the others to prepare|joining the other ranks)",
    "load": "loading",
    "prefill": "reading a prompt",
    "decode": "decoding",
    "idle": "(idle|taking a request)",
    "drain": "decoding",
}
AGENT_LOST = "(no sign of its agent|its agent is gone)"  # the lease, or gRPC's own, is over
RANK = "ranks? {rank} on {host}: "
# What a verdict says, by fault. Nothing is said of a coordinator that is gone.
CAUSE = {
    "KILL": RANK + "killed by SIGKILL while {doing}",
    "STOP": RANK + "stopped by a signal while {doing}",
    "exit 1": RANK + "exited with code 1 while {doing}",
    "exit 0": RANK + "exited with code 0 while {doing}",
    "SEGV": RANK + "killed by SIGSEGV while {doing}",
    "GIL held": RANK + "no progress (for .* )?while {doing}",
    "exception on one rank": RANK + "exited with code 1 while {doing}.*as a test has planted it",
    "control link down": RANK + AGENT_LOST + ".*{host} lives, for",
    "host gone": RANK + AGENT_LOST,
    "agent killed": RANK + "its agent is gone",
    "data link down": "the link between hostA and hostB: ",
}
SLACK_S = 2.0  # of a machine that is not loaded: looks, beats, and the second that is promised
TYPED = re.compile(r"(?!UNTYPED)\w+: .+", re.DOTALL)


def problems(cluster, course, unbroken):
    """All that was not as promised, in words."""
    return [
        *(["it hangs"] if course.hangs else []),
        *_wrong_end(course),
        *_wrong_verdict(cluster, course),
        *([f"{course.orphans} orphans"] if course.orphans else []),
        *_wrong_texts(course, unbroken),
        *_lies(cluster, course),
    ]


def result(course):
    """What became of the cluster."""
    if course.code is not None:
        return "drained" if course.code == 0 else "ended"
    if course.fault == "coordinator killed":
        return "adopted" if course.same_ranks else "launched again"
    return "healed" if course.detected_s else "unharmed"


def _wrong_end(course):
    """It should have healed, unless it was ending anyway."""
    found, harmless = result(course), course.fault in ("link flap", "slow link")
    if course.fault == "coordinator killed":
        allowed = {"adopted", "launched again"}
    elif course.phase == "drain":
        allowed = {"drained"} if harmless else {"ended", "drained"}
    else:
        allowed = {"unharmed"} if harmless else {"healed"}
    return [] if found in allowed else [f"{found} with {course.code}"]


def verdict_of(cluster, course):
    """What the cluster said of the fault: in its status, or when it ended."""
    since_s = course.detected_s or course.harmed_s
    told = [look.failure for look in cluster.watch.since(since_s) if look.failure]
    errors = [line for line in cluster.said[course.said :].splitlines() if "error: " in line]
    words = next(iter((*told, *errors)), "") if course.detected_s or course.code else ""
    return "" if course.fault == "coordinator killed" else words


def _wrong_verdict(cluster, course):
    cause = CAUSE.get(course.fault)
    if (course.fault, course.phase) == ("data link down", "init"):
        cause = f"({cause}|no progress)"  # it may never have been up, as far as anybody knows
    if not cause or result(course) == "drained":
        return []
    said = f"{verdict_of(cluster, course)} {cluster.said[course.said :]}"
    who = {"rank": cluster.victim, "host": cluster.host, "doing": DOING[course.phase]}
    return [] if re.search(cause.format(**who), said, re.DOTALL) else ["verdict"]


def _wrong_texts(course, unbroken):
    """A text is whole, or, where nobody is left to go on with it, ends with a typed error."""
    wrong = []
    hopeless = course.code or course.fault == "coordinator killed"
    for wish in course.wishes:
        if wish.ended_s is None:
            wrong.append("a client hangs")
        elif wish.whole and wish.tokens != unbroken:
            wrong.append("another text")
        elif wish.error and not (hopeless and TYPED.fullmatch(wish.error)):
            wrong.append("a client's error")
    return wrong


def _lies(cluster, course):
    """Where readiness was not what a client met, or would have met."""
    watch, found = cluster.watch, []
    if course.fault != "coordinator killed":  # whose ranks may go on without a new epoch
        failed_s = [wish.ended_s for wish in course.wishes if wish.error]
        known_s = min((*failed_s, course.detected_s), default=None, key=lambda at_s: at_s or 1e99)
        # Not in the look in which it was known, which asks twice at the same time.
        later = [look for look in watch.since(known_s or 1e99) if look.at_s > known_s]
        if any(look.ready and look.epoch == course.epoch for look in later):
            found.append("ready though it is known or felt")
    if stuck_s(cluster, course) > stuck_bound_s(cluster):
        found.append("ready without progress")
    if _differ(watch.since(course.harmed_s)):
        found.append("gRPC and HTTP differ on readiness")
    return found


def stuck_s(cluster, course):
    """The longest time in which it was ready and had work, and none of that moved."""
    looks = cluster.watch.since(course.harmed_s)
    stuck = groupby(looks, lambda look: look.ready and look.running > 0 and (look.epoch, look.done))
    runs = [[look.at_s for look in run] for moved, run in stuck if moved]
    return max((run[-1] - run[0] for run in runs), default=0.0)


def stuck_bound_s(cluster):
    """How long that may last."""
    return (TIMEOUTS["step_s"] + SLACK_S) * cluster.slowness


def _differ(looks):
    """More than a few times in a row, for they are asked one after the other."""
    runs = groupby(looks, lambda look: look.ready != look.serving)
    return any(len([*run]) > 4 for differs, run in runs if differs)


def strays(cluster):
    """How many processes too many, or too few, a cluster that serves has, after some time."""
    ends_s = time.monotonic() + 5 * cluster.slowness
    while (count := _strays(cluster)) and time.monotonic() < ends_s:
        time.sleep(0.1)
    return count


def _strays(cluster):
    wanted = Counter({"agent": 1, "guard": 1, "rank": 1})
    wrong = 0
    for host in HOSTS:
        found = Counter(filter(None, map(_kind, cluster.network.processes(host))))
        wrong += (found - wanted).total() + (wanted - found).total()
    return wrong


def _kind(process):
    with suppress(psutil.NoSuchProcess):
        words = process.cmdline()
        kinds = {"--progress": "rank", "--port=0": "agent", "guard": "guard"}
        return next((kind for word, kind in kinds.items() if word in words), None)
    return None
