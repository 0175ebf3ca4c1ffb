"""Soak: random faults at random moments, while clients want texts, and none of them is a hang.

    python -m tests.soak.random_faults [FAULTS [SEED]]

Two hosts in network namespaces, root on Linux only. A cluster lives for twenty faults, or until it
stops for a reason it tells. Each fault hits a random rank or host: while nothing is to do, at any
time of a few texts, by gRPC and HTTP, greedy and seeded, or while ranks start. Cables, power and
coordinators are back some seconds later. Then, within a bound, the cluster serves again and every
client has its whole text, the one of a cluster without faults. It may be a typed error only where
the coordinator was killed, where the cluster has stopped, and where it was not ready any more when
it was asked. A fault is one line of results/random_faults.csv; its number and SEED choose it, and a
run goes on with the numbers that have none. Seconds are those of `faults`, from the fault; `named`
is whether the verdict names the rank or host that was harmed. Prints a table of all lines. Ends
with 1 if a line says WRONG.
"""

import random
import re
import signal
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import psutil

from tests.cluster.conftest import endless
from tests.cluster.field import ASKED, Cluster, Field
from tests.cluster.harm import FAULTS
from tests.cluster.judging import TYPED, stuck_bound_s, stuck_s, verdict_of
from tests.cluster.matrix import Course, begin, end, note
from tests.cluster.watching import Wish
from tests.soak.lines import Results

COLUMNS = (
    *("number", "seed", "fault", "moment", "victim", "delay_s", "away_s", "outcome"),
    *("detected_s", "gone_s", "ready_s", "stuck_s", "named", "verdict", "texts", "clients"),
    *("epoch", "same_ranks", "slowness", "commit"),
)
RESULTS = Results("random_faults.csv", COLUMNS)
PER_CLUSTER, ATTEMPTS = 20, 3
BOUND_S = 45.0  # and what cables are away for
MOMENTS = ("work", "work", "work", "idle", "start")
SHORT = ASKED["prompt"][:200]
TEXTS = (
    ASKED,
    {"prompt": SHORT, "max_tokens": 40, "temperature": 0},
    {"prompt": SHORT, "max_tokens": 40, "temperature": 1, "seed": 3},
    {"prompt": "Hello", "max_tokens": 60, "temperature": 1, "seed": 4},
)
QUICK = {"backoff_s": [0.2, 0.4], "most": 1000}
BARS = ("detected_s", "gone_s", "ready_s")


@dataclass(frozen=True)
class Plan:
    """What is to happen, and when."""

    number: int
    seed: int
    fault: str
    moment: str
    delay_s: float  # of an idle machine; from the beginning of the moment
    away_s: float  # until somebody plugs in the cable again, and the like
    wanted: tuple[tuple[int, str], ...]  # texts, and how they are asked for


def plan_of(number: int, seed: int) -> Plan:
    """Always the same one."""
    rng = random.Random(f"{seed} {number}")
    moment = rng.choice(MOMENTS)
    return Plan(
        number,
        seed,
        rng.choice([*FAULTS]),
        moment,
        round(rng.uniform(0, 2.5), 2),
        round(rng.choice([0.2, rng.uniform(0.2, 6)]), 2),
        tuple(
            (rng.randrange(len(TEXTS)), rng.choice(["grpc", "http"]))
            for _ in range(0 if moment == "idle" else rng.randint(1, 3))
        ),
    )


def main() -> int:
    """As many faults as the command line says, those of earlier runs included."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave nothing behind
    faults, seed = (*map(int, sys.argv[1:3]), *(200, 7)[len(sys.argv) - 1 :])
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-random-") as folder:
        model_dir = endless(Path(folder) / "model")
        with Field(Path(folder) / "field", model_dir) as field:
            texts: list[Wish] = []
            fruitless = 0
            while (todo := missing(faults)) and fruitless < ATTEMPTS:
                try:
                    run(field, [plan_of(number, seed) for number in todo[:PER_CLUSTER]], texts)
                except AssertionError as error:  # it did not come to the fault
                    print(f"fault {missing(faults)[0]} was not reached: {error}", file=sys.stderr)
                fruitless = fruitless + 1 if missing(faults) == todo else 0
    print_table()
    return RESULTS.status("WRONG") or int(bool(missing(faults)))


def missing(faults: int) -> list[int]:
    """The numbers of those that have no line yet."""
    done = {int(line["number"]) for line in RESULTS.lines()}
    return [number for number in range(faults) if number not in done]


def run(field: Field, plans: list[Plan], texts: list[Wish]) -> None:
    """One cluster's faults, or the first of them if it stops; texts are those without faults."""
    with field.cluster(restart=QUICK) as cluster:
        cluster.wait(lambda: cluster.last.ready, "ready")
        if not texts:
            texts += [cluster.text(**words) for words in TEXTS]
        for number, plan in enumerate(plans):
            line = harm(cluster, plan, texts)
            if number == len(plans) - 1 and not cluster.ended:
                orphans, code = end(cluster)
                if orphans or code:
                    line["outcome"] = f"WRONG: {orphans} orphans after down, {code}"
            RESULTS.add(line)
            if cluster.ended or line["outcome"].startswith("WRONG"):
                return


def harm(cluster: Cluster, plan: Plan, texts: list[Wish]) -> dict[str, object]:
    """One fault, and its line."""
    cluster.aim(f"{plan.seed} {plan.number}")
    cluster.watch.forget()
    wanted = [(which, cluster.ask(by, **TEXTS[which])) for which, by in plan.wanted]
    if plan.moment == "start":
        old = cluster.last.epoch
        cluster.watch.restart()
        cluster.wait(lambda: cluster.last.epoch > old, "another epoch")
    course = hit(cluster, plan, [wish for _, wish in wanted])
    settle(cluster, course, plan, wanted)
    pids = {rank.process.pid for rank in cluster.ranks().values()}
    course.same_ranks = pids == course.pids
    wrong = [*problems(cluster, course, wanted, texts)]
    facts = {key: value for key, value in asdict(plan).items() if key in COLUMNS}
    verdict = verdict_of(cluster, course)
    return facts | {
        "victim": cluster.victim,
        "outcome": f"WRONG: {'; '.join(wrong)}" if wrong else outcome(course),
        **{bar: _seconds(course, getattr(course, bar)) for bar in BARS},
        "stuck_s": f"{stuck_s(cluster, course):.2f}",
        "named": _named(cluster, plan, verdict),
        "verdict": verdict,
        "texts": len(plan.wanted),
        "clients": " | ".join(wish.error or "whole" for _, wish in wanted),
        "epoch": max((look.epoch for look in cluster.watch.looks), default=0),
        "same_ranks": "yes" if course.same_ranks else "no",
        "slowness": cluster.slowness,
    }


def hit(cluster: Cluster, plan: Plan, wishes: list[Wish]) -> Course:
    """The fault, at its moment; a rank that is to be harmed may end meanwhile, and another come."""
    time.sleep(plan.delay_s * cluster.slowness)
    for attempt in range(ATTEMPTS):
        cluster.wait(lambda: cluster.ranks().get(cluster.victim), "a rank")
        course = begin(cluster, plan.fault, plan.moment, *wishes)
        try:
            FAULTS[plan.fault].harm(cluster)
        except (KeyError, OSError, psutil.NoSuchProcess):
            if attempt == ATTEMPTS - 1:
                raise
            continue
        break
    return course


def settle(cluster: Cluster, course: Course, plan: Plan, wanted: list[tuple[int, Wish]]) -> None:
    """Until everything is mended and everybody has a text, the last of whom asked after that."""
    ends_s = course.harmed_s + BOUND_S * cluster.slowness + plan.away_s
    last = None
    while not (last and last.whole) and course.code is None:
        note(cluster, course)
        if not course.mended_s and time.monotonic() >= course.harmed_s + plan.away_s:
            FAULTS[plan.fault].mend(cluster)
            course.mended_s = time.monotonic()
        is_free = all(wish.ended_s for _, wish in wanted)
        if course.mended_s and is_free and cluster.last.ready:
            last = cluster.ask()
            wanted.append((0, last))
        if time.monotonic() > ends_s:
            course.hangs = True
            break
        time.sleep(0.03)
    note(cluster, course)
    if course.code is not None:
        _wait_for(lambda: all(wish.ended_s for _, wish in wanted))


def problems(
    cluster: Cluster, course: Course, wanted: list[tuple[int, Wish]], texts: list[Wish]
) -> list[str]:
    """All that was not as promised."""
    hopeless = course.code or course.fault == "coordinator killed"
    wrong = ["it hangs"] if course.hangs else []
    if stuck_s(cluster, course) > stuck_bound_s(cluster):
        wrong.append("ready without progress")
    for which, wish in wanted:
        if wish.ended_s is None:
            wrong.append("a client hangs")
        elif wish.whole and not _same(wish, texts[which]):
            wrong.append("another text")
        elif wish.error and not (TYPED.fullmatch(wish.error) and (hopeless or _refused(wish))):
            wrong.append("a client's error")
    return wrong


def outcome(course: Course) -> str:
    """What became of the cluster."""
    if course.code is not None:
        return f"stopped with {course.code}"
    return "healed" if course.detected_s else "unharmed"


def print_table() -> None:
    """What all lines say, by fault: how many, and the middle and the most of their seconds."""
    lines = defaultdict(list)
    for line in RESULTS.lines():
        lines[line["fault"]].append(line)
    print("fault", "lines", "healed", "unharmed", "stopped", "WRONG", *BARS, sep="\t")
    for fault, found in sorted(lines.items()):
        words = ("healed", "unharmed", "stopped", "WRONG")
        counts = [sum(line["outcome"].startswith(word) for line in found) for word in words]
        print(fault, len(found), *counts, *(_bar(found, name) for name in BARS), sep="\t")


def _bar(lines: list[dict[str, str]], name: str) -> str:
    values = [float(line[name]) for line in lines if line[name] and line["moment"] != "start"]
    return f"{median(values):.1f} / {max(values):.1f}" if values else "-"


def _named(cluster: Cluster, plan: Plan, verdict: str) -> str:
    if not verdict or plan.moment == "start":
        return ""
    pattern = rf"(\b{cluster.host}\b|ranks? {cluster.victim} )"
    return "yes" if re.search(pattern, verdict) else "no"


def _refused(wish: Wish) -> bool:
    """It came too late: the cluster was not ready any more, and said so."""
    return not wish.pieces and "try again in a while" in (wish.error or "")


def _same(wish: Wish, other: Wish) -> bool:
    """HTTP tells no tokens."""
    return wish.text == other.text and wish.tokens in ([], other.tokens)


def _seconds(course: Course, at_s: float | None) -> str:
    return "" if at_s is None else f"{at_s - course.harmed_s:.2f}"


def _wait_for(holds, within_s: float = 10.0) -> None:
    ends_s = time.monotonic() + within_s
    while not holds() and time.monotonic() < ends_s:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
