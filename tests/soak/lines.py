"""A soak's results: one line per case, so that a run may be interrupted and goes on."""

import csv
import subprocess
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


class Results:
    """Lines of results/NAME that may be in any order; each says of which commit it is."""

    def __init__(self, name: str, columns: Sequence[str]) -> None:
        self._file = Path(__file__).parent / "results" / name
        self._columns = columns

    def lines(self) -> list[dict[str, str]]:
        """All so far."""
        if not self._file.exists():
            return []
        with self._file.open(newline="") as file:
            return [*csv.DictReader(file)]

    def add(self, line: Line) -> None:
        """One more, which is printed too."""
        new = not self._file.exists()
        line = {"commit": commit()} | line
        with self._file.open("a", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            if new:
                writer.writeheader()
            writer.writerow(line)
        print(*(line[name] for name in self._columns), sep="\t", flush=True)

    def status(self, word: str) -> int:
        """The exit status: 1 if any outcome has this word."""
        return int(any(word in line["outcome"] for line in self.lines()))


def commit() -> str:
    """Which one is measured; with a + if its code was changed since."""
    git = ["git", "-C", str(Path(__file__).parents[2])]
    name = [*git, "rev-parse", "--short", "HEAD"]
    changes = [*git, "diff", "--quiet", "HEAD", "--", "*.py"]
    found = subprocess.run(name, capture_output=True, text=True, check=True).stdout.strip()
    return found + "+" * subprocess.run(changes, check=False).returncode
