"""Soak: drafts never change a text; how often they are right, and what that saves.

    python -m tests.soak.speculation [GROUPS]

A group is 25 held-out texts that the demo model goes on with, first without drafts, then with: 20
groups, 500 prompts, meet every setting once. Those are greedy at depth 1 to 4, batch 1 and 4, on 1
and 2 ranks, and drawn at temperature 1 at depth 2 in each of the latter. A group is one line of
results/speculation.csv. A greedy token may differ where the two highest logits tie within 1e-4:
such cases are printed, and counted in `ties`. Ends with 1 if any other token differs.

In a line: the part of the drafts that were right; tokens of all sequences per decode step; how many
of the decode steps were saved; and the time of the decode steps with drafts over that without,
measured in turns in one process.
"""

import itertools
import json
import sys
import tempfile
from pathlib import Path

from tests.engine.ring import run_ranks
from tests.soak.jobs import TIE
from tests.soak.lines import DIFFERENT, soak

RESULTS = Path(__file__).parent / "results" / "speculation.csv"
COLUMNS = (
    *("case", "outcome", "ranks", "batch", "depth", "heat", "prompts", "tokens", "drafted"),
    *("acceptance", "tokens_per_pass", "without", "passes_saved", "time_ratio"),
    *("collectives_ratio", "ties", "differing"),
)
SETTINGS = (
    *itertools.product((1, 2, 3, 4), (1, 4), (1, 2), (0.0,)),  # depth, batch, ranks, heat
    *itertools.product((2,), (1, 4), (1, 2), (1.0,)),
)
PROMPTS, LENGTH = 25, 12
_DEADLINE_S = 1800


def run_case(case: int, prompts: int = PROMPTS) -> dict[str, object]:
    """One line of the results."""
    depth, batch, ranks, heat = SETTINGS[case % len(SETTINGS)]
    params = {"batch": batch, "depth": depth, "heat": heat}
    how = {"deadline_s": _DEADLINE_S, "jobs": "tests.soak.jobs", "group": case, **params}
    with tempfile.TemporaryDirectory() as folder:
        run_ranks("speculate", ranks, Path(folder), prompts=prompts, length=LENGTH, **how)
        halves = json.loads((Path(folder) / "0.json").read_text())
    odd = [each for half in halves for each in half["differing"]]
    ties = [each for each in odd if each["gap"] <= TIE and not heat]
    if odd:
        print(f"case {case}: {odd}")
    line = {"case": case, "outcome": "equal" if odd == ties else DIFFERENT, "ranks": ranks}
    counts = {"prompts": prompts, "ties": len(ties), "differing": len(odd) - len(ties)}
    return line | params | counts | figures(halves)


def figures(halves: list[dict[str, object]]) -> dict[str, object]:
    """Those of the drafts, of both halves together."""
    total, drafted, right = (
        sum(h[name] for h in halves) for name in ("tokens", "drafted", "right")
    )
    passes, times, collectives = (
        [sum(half[name][run] for half in halves) for run in (0, 1)]
        for name in ("passes", "time_s", "collectives")
    )
    return {
        "tokens": total,
        "drafted": drafted,
        "acceptance": f"{right / drafted:.3f}",
        "tokens_per_pass": f"{total / passes[1]:.2f}",
        "without": f"{total / passes[0]:.2f}",
        "passes_saved": f"{1 - passes[1] / passes[0]:.3f}",
        "time_ratio": f"{times[1] / times[0]:.2f}",
        "collectives_ratio": f"{collectives[1] / collectives[0]:.2f}" if collectives[0] else "",
    }


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case, cases=len(SETTINGS)))
