"""Soak: requests that come, go and are cancelled together get what each would get alone.

    python -m tests.soak.many_requests [ROUNDS]

A round is 64 requests for the demo model on a real ring of 1, 2 or 3 ranks, with drafts in every
second one: prompts and answers of random lengths, chosen in every way, that arrive at random
steps, on each rank at another look. Of each the text must be the one that the same ring gives it
alone without drafts, or the beginning of it if it was cancelled; and all ranks must have the same
history. A round is one line of results/many_requests.csv, and its number is its seed: a run goes
on after the last line. Ends with 1 if a text or a history differs.
"""

import json
import random
import sys
import tempfile
from pathlib import Path

from tests.engine.ring import run_ranks
from tests.soak.jobs import ADAPTIVE
from tests.soak.lines import DIFFERENT, soak

RESULTS = Path(__file__).parent / "results" / "many_requests.csv"
COLUMNS = (
    *("case", "outcome", "ranks", "batch", "depth", "shelf_bytes", "requests", "tokens"),
    *("cancelled", "drafted", "right", "cached", "steps", "differing", "digest"),
)
ROUNDS = 36
REQUESTS, CANCELS = 64, 14
_DEADLINE_S = 1800


def run_case(case: int, requests: int = REQUESTS) -> dict[str, object]:
    """One line of the results."""
    rng, ranks = random.Random(case), 1 + case % 3
    depth = rng.choice([1, 2, 3, 4, ADAPTIVE]) if case // 3 % 2 else 0
    params = {
        "batch": rng.choice([2, 4, 8, 16]),
        "depth": depth,
        "shelf_bytes": rng.choice([0, 4 << 20]),
    }
    with tempfile.TemporaryDirectory() as folder:
        how = {"deadline_s": _DEADLINE_S, "jobs": "tests.soak.jobs", "case": case, **params}
        cancels = CANCELS * requests // REQUESTS
        run_ranks("together", ranks, Path(folder), count=requests, cancels=cancels, **how)
        told = [json.loads((Path(folder) / f"{rank}.json").read_text()) for rank in range(ranks)]
    differing = sorted({name for each in told for name in each.pop("differing")}, key=int)
    same = len({each["digest"] for each in told}) == 1 and not differing
    line = {"case": case, "outcome": "equal" if same else DIFFERENT, "ranks": ranks, **params}
    counts = {"requests": requests, "differing": " ".join(differing)}
    digests = {"digest": " ".join(dict.fromkeys(each["digest"] for each in told))}
    return line | told[0] | counts | digests


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case, cases=ROUNDS))
