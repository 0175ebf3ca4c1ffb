"""Soak: every fault in every phase of a real cluster over ssh, one line of results each.

    python -m tests.soak.faults [CELLS [FAULT or PHASE ...]]

Two hosts in network namespaces, root on Linux only. Each cell is one line of results/faults.csv; a
run goes on with those that have none, so it may be interrupted at any time. Delete a line to run
its cell again; words after CELLS choose among them. Seconds run from the fault: until it is known
(`detected_s`), until every rank of the epoch is gone, until the cluster serves again; `load_s` is
what the first epoch took to serve, if it came so far. Deadlines were multiplied
by `slowness`, for a machine that has other work. Ends with 1 if a line says WRONG.
"""

import csv
import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.conftest import endless
from tests.cluster.harm import FAULTS, PHASES
from tests.cluster.matrix import COLUMNS, run_cell, unbroken_text

RESULTS = Path(__file__).parent / "results" / "faults.csv"
ATTEMPTS = 3
CELLS = [(fault, phase) for phase in PHASES for fault in FAULTS]


def main() -> int:
    """Runs the cells that have no line yet, as many as the command line says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave nothing behind
    most = int(sys.argv[1]) if len(sys.argv) > 1 else len(CELLS)
    done = set(map(_cell, _lines()))
    wanted = set(sys.argv[2:]) or set(PHASES)
    todo = [cell for cell in CELLS if cell not in done and wanted & set(cell)][:most]
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-faults-") as folder:
        run(todo, Path(folder))
    return int(any(line["outcome"].startswith("WRONG") for line in _lines()))


def run(todo: list[tuple[str, str]], folder: Path) -> None:
    """These cells, one after the other."""
    model_dir = endless(folder / "model")
    unbroken = _unbroken(folder, model_dir)
    for number, (fault, phase) in enumerate(todo):
        place = folder / f"cell{number}"
        try:
            line = run_cell(fault, phase, folder=place, model_dir=model_dir, unbroken=unbroken)
        except AssertionError as error:  # it did not come to the phase, e.g. on a busy machine
            print(f"{fault} x {phase} was not run: {error}", file=sys.stderr)
            continue
        _write(line)
        print(*line.values(), sep="\t", flush=True)


def _unbroken(folder: Path, model_dir: Path) -> list[int]:
    """The text that every client should get; a busy machine may need several attempts."""
    for attempt in range(ATTEMPTS):
        try:
            return unbroken_text(folder / f"unbroken{attempt}", model_dir)
        except AssertionError as error:
            print(f"no cluster: {error}", file=sys.stderr)
    sys.exit("error: no cluster comes up here; see above")


def _lines() -> list[dict[str, str]]:
    if not RESULTS.exists():
        return []
    with RESULTS.open(newline="") as file:
        return [*csv.DictReader(file)]


def _cell(line: dict[str, str]) -> tuple[str, str]:
    return line["fault"], line["phase"]


def _write(line: dict[str, object]) -> None:
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(line)


if __name__ == "__main__":
    sys.exit(main())
