"""Soak: on a machine that is too busy, ranks that are slow but move are left alone.

    python -m tests.soak.stress [MINUTES]

Two hosts in network namespaces, root on Linux only, and twice as many busy processes as cores. With
the timeouts that a user has, each chunk of a prompt takes up to six seconds more than it should,
and each step up to three, by chance, so that what was usual says little. Two clients want texts all
the time. A minute is one line of results/stress.csv: no epoch may end, and every answer of the
cluster has to be that it is ready. `unanswered` counts looks that were not answered within two
seconds, `most_stuck_s` is the longest time without any progress. A run goes on after the last line,
on a new cluster. Ends with 1 if there was an alarm.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from tests.cluster.conftest import endless
from tests.cluster.field import Cluster, Field
from tests.cluster.watching import GONE, Wish
from tests.soak.lines import Results

COLUMNS = (
    *("minute", "outcome", "looks", "not_ready", "unanswered", "most_stuck_s", "progress"),
    *("texts", "failed", "epoch", "load", "commit"),
)
RESULTS = Results("stress.csv", COLUMNS)
PAUSES_S = {"loaded": (0, 0.5), "prefilled": (0, 6), "decoded": (0, 3)}
BUSY = [sys.executable, "-c", "import os; os.nice(5)\nwhile True: pass"]
CLIENTS = 2
MINUTE_S = 60.0


def main() -> int:
    """As many minutes as the command line says, those of earlier runs included."""
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    done = len(RESULTS.lines())
    if done < minutes:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dsv4-tp-")))
            field = stack.enter_context(Field(folder / "field", endless(folder / "model")))
            cluster = field.cluster(timeouts={})
            (cluster.folder / "pauses").write_text(json.dumps(PAUSES_S))
            stack.enter_context(cluster)
            cluster.wait(lambda: cluster.last.ready, "ready")
            for _ in range(2 * (os.cpu_count() or 1)):
                busy = stack.enter_context(subprocess.Popen(BUSY))
                stack.callback(busy.kill)
            run(cluster, range(done, minutes))
    return RESULTS.status("ALARM")


def run(cluster: Cluster, minutes: range) -> None:
    """These minutes, one after the other."""
    wishes: list[Wish] = []
    for minute in minutes:
        since_s, ended = time.monotonic(), 0
        cluster.watch.forget()
        while time.monotonic() < since_s + MINUTE_S:
            over = [wish for wish in wishes if wish.ended_s]
            ended += len(over)
            failed = [wish.error for wish in over if wish.error]
            wishes = [wish for wish in wishes if not wish.ended_s]
            wishes += [cluster.ask("grpc") for _ in range(CLIENTS - len(wishes))]
            if failed or cluster.ended:
                break
            time.sleep(0.2)
        RESULTS.add({"minute": minute, **line(cluster, since_s, ended, failed)})
        if failed or cluster.ended:
            return


def line(cluster: Cluster, since_s: float, texts: int, failed: list[str]) -> dict[str, object]:
    """What was seen since."""
    looks = cluster.watch.since(since_s)
    seen = [look for look in looks if look.phase != GONE]
    lost = [look for look in seen if not look.ready]
    still = groupby(seen, lambda look: look.done)
    runs = [[look.at_s for look in run] for _, run in still]
    quiet = seen and not lost and not failed and seen[-1].epoch == 1
    return {
        "outcome": "quiet" if quiet else f"ALARM: {seen[-1].failure if seen else 'nothing seen'}",
        "looks": len(looks),
        "not_ready": len(lost),
        "unanswered": len(looks) - len(seen),
        "most_stuck_s": f"{max((run[-1] - run[0] for run in runs), default=0.0):.1f}",
        "progress": seen[-1].done - seen[0].done if seen else 0,
        "texts": texts,
        "failed": "; ".join(failed),
        "epoch": seen[-1].epoch if seen else 0,
        "load": f"{os.getloadavg()[0]:.1f}",
    }


if __name__ == "__main__":
    sys.exit(main())
