"""How quickly faults are known and healed: a table of what the soaks of faults have measured.

    python -m tests.soak.figures

From results/faults.csv and results/random_faults.csv: of each kind of fault the middle and the most
of the seconds until it was known, from then until every rank of the epoch was gone, and from then
until the cluster served again, without what the ranks took to load before there was a fault. Faults
that meet a cluster that starts are left out there, for it was not ready before.
"""

import csv
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

from tests.cluster.field import TIMEOUTS

RESULTS = Path(__file__).parent / "results"
Line = dict[str, str]
HANGS = "a rank hangs (known after its deadline)"
KINDS = {
    "a rank exits": ("exit 1", "exit 0", "exception on one rank", "KILL", "SEGV"),
    HANGS: ("STOP", "GIL held"),
    "the ranks' network is cut": ("data link down",),
    "a host, or the way to it, is gone": ("host gone", "control link down"),
    "an agent is killed": ("agent killed",),
    "the coordinator is killed": ("coordinator killed",),
    "a link flaps or is slow": ("link flap", "slow link"),
}


def main() -> int:
    """Prints the table, in Markdown."""
    lines = [*_lines("faults.csv"), *_lines("random_faults.csv")]
    print("| fault | times | wrong | known after | ranks gone after that | serves after loading |")
    print("|---|---|---|---|---|---|")
    for kind, faults in KINDS.items():
        found = [line for line in lines if line["fault"] in faults]
        harmed = [line for line in found if line["detected_s"]]
        wrong = sum("WRONG" in line["outcome"] for line in found)
        cells = (_cell(harmed, each) for each in (_known_s, _gone_s, _back_s))
        print("|", " | ".join((kind, str(len(found)), str(wrong), *cells)), "|")
    return 0


def _known_s(line: Line) -> float | None:
    """Of a rank that hangs, beyond its deadline; an idle one has none before it is asked."""
    known_s, asked_s = float(line["detected_s"]), float(line.get("asked_s") or 0)
    if line["fault"] not in KINDS[HANGS]:
        return known_s
    deadline = "join_s" if line.get("phase") == "init" else "step_s"
    since_s = asked_s if asked_s < known_s else 0.0
    return known_s - since_s - TIMEOUTS[deadline] * float(line["slowness"])


def _gone_s(line: Line) -> float | None:
    gone = line["gone_s"]
    return max(0.0, float(gone) - float(line["detected_s"])) if gone else None


def _back_s(line: Line) -> float | None:
    if not line["ready_s"] or not line.get("load_s") or line["same_ranks"] == "yes":
        return None
    # The files are in memory by then, so it may take less than the first time.
    return max(0.0, float(line["ready_s"]) - float(line["detected_s"]) - float(line["load_s"]))


def _cell(lines: Iterable[Line], seconds: Callable[[Line], float | None]) -> str:
    values = [value for value in map(seconds, lines) if value is not None]
    return f"{median(values):.1f}, at most {max(values):.1f} s" if values else "-"


def _lines(name: str) -> list[Line]:
    if not (RESULTS / name).exists():
        return []
    with (RESULTS / name).open(newline="") as file:
        return [*csv.DictReader(file)]


if __name__ == "__main__":
    sys.exit(main())
