"""A soak's results: one line per case, so that a run may be interrupted and goes on."""

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

Line = dict[str, object]
DIFFERENT = "DIFFERENT"
_DEFAULT_CASES = 200


def soak(
    results: Path,
    columns: Sequence[str],
    run_case: Callable[[int], dict[str, object]],
    *,
    cases: int = _DEFAULT_CASES,
) -> int:
    """Runs the cases that have no line yet, as many as the command line says, or `cases`.

    The exit status: 1 if any line, of this run or an earlier one, says DIFFERENT.
    """
    cases = int(sys.argv[1]) if len(sys.argv) > 1 else cases
    results.parent.mkdir(exist_ok=True)
    done = len(results.read_text().splitlines()) - 1 if results.exists() else -1
    with results.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns)
        if done < 0:
            writer.writeheader()
        for case in range(max(done, 0), cases):
            writer.writerow(run_case(case))
            file.flush()
    return int(DIFFERENT in results.read_text())
