"""Soak: what an engine holds after thousands of requests is what it held after the first.

    python -m tests.soak.leaks [CASES]

A case is 2,000 requests for the demo model, as in many_requests but mostly shorter, through one
engine: without drafts on one rank, with drafts and snapshots on one rank, and the latter on a ring
of two. Whenever the engine is at rest, after each hundred, it must hold no request; and what MLX
holds beside the weights and the snapshots, and the arrays that Python knows, must be back at what
they were after the first hundred. MLX may give a snapshot a freed buffer that is a little larger,
so their share may differ by a 32nd. A case is one line of results/leaks.csv. Ends with 1 if any
leaks.
"""

import json
import sys
import tempfile
from pathlib import Path

from tests.engine.ring import run_ranks
from tests.soak.jobs import ADAPTIVE
from tests.soak.lines import DIFFERENT, soak

RESULTS = Path(__file__).parent / "results" / "leaks.csv"
COLUMNS = (
    *("case", "outcome", "ranks", "batch", "depth", "shelf_bytes", "requests", "cancelled"),
    *("turns", "bytes_first", "bytes_last", "bytes_most", "arrays_first"),
    "arrays_last",
)
CASES = (
    (1, {"batch": 8, "depth": 0, "shelf_bytes": 0}),
    (1, {"batch": 8, "depth": ADAPTIVE, "shelf_bytes": 2 << 20}),
    (2, {"batch": 8, "depth": ADAPTIVE, "shelf_bytes": 2 << 20}),
)
REQUESTS, WAVE = 2000, 100
SLACK_BYTES = 16 << 10
SLACK_OF_SHELF = 1 / 32
_DEADLINE_S = 3600


def run_case(case: int, requests: int = REQUESTS, wave: int = WAVE) -> dict[str, object]:
    """One line of the results."""
    ranks, params = CASES[case % len(CASES)]
    with tempfile.TemporaryDirectory() as folder:
        how = {"deadline_s": _DEADLINE_S, "jobs": "tests.soak.jobs", "case": case, **params}
        run_ranks("endure", ranks, Path(folder), count=requests, wave=wave, **how)
        told = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]
    slack_bytes = SLACK_BYTES + int(params["shelf_bytes"] * SLACK_OF_SHELF)
    kept = all(holds(each["held"], requests, slack_bytes) for each in told)
    line = {"case": case, "outcome": "equal" if kept else DIFFERENT, "ranks": ranks, **params}
    _, first, *_, last = told[0]["held"]
    return line | {
        "requests": last["ended"],
        "cancelled": told[0]["cancelled"],
        "turns": max(each["turns"] for each in told[0]["held"]),
        "bytes_first": first["bytes"],
        "bytes_last": last["bytes"],
        "bytes_most": max(each["bytes"] for each in told[0]["held"][1:]),
        "arrays_first": first["arrays"],
        "arrays_last": last["arrays"],
    }


def holds(held: list[dict[str, int]], requests: int, slack_bytes: int = SLACK_BYTES) -> bool:
    """Whether all were served, and nothing of them was left whenever the engine was at rest."""
    _, first, *more = held
    return held[-1]["ended"] == requests and all(
        each["turns"] == 0
        and each["bytes"] - first["bytes"] <= slack_bytes
        and each["arrays"] <= first["arrays"]
        for each in (first, *more)
    )


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case, cases=len(CASES)))
