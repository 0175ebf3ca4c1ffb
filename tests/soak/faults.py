"""Soak: every fault in every phase of a real cluster over ssh, one line of results each.

    python -m tests.soak.faults [CELLS [FAULT or PHASE ...]]

Two hosts in network namespaces, root on Linux only. Each cell is one line of results/faults.csv; a
run goes on with those that have none, so it may be interrupted at any time. Delete a line to run
its cell again; words after CELLS choose among them. Seconds run from the fault: until it is known
(`detected_s`), until somebody asks a cluster that was idle, until every rank of the epoch is gone,
until the cluster serves again; `load_s` is what the first epoch took to serve, if it came so far,
and `stuck_s` the longest time in which it was ready and had work, none of which moved. `commit` is
what was measured. Deadlines were multiplied by `slowness`, for a machine that has other work. Ends
with 1 if a line says WRONG.
"""

import signal
import sys
import tempfile
from pathlib import Path

from tests.cluster.conftest import endless
from tests.cluster.field import Field
from tests.cluster.harm import FAULTS, PHASES
from tests.cluster.matrix import COLUMNS, end, run_cell
from tests.soak.lines import Results

RESULTS = Results("faults.csv", (*COLUMNS, "commit"))
ATTEMPTS = 3
CELLS = [(fault, phase) for phase in PHASES for fault in FAULTS]


def main() -> int:
    """Runs the cells that have no line yet, as many as the command line says."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and leave nothing behind
    most = int(sys.argv[1]) if len(sys.argv) > 1 else len(CELLS)
    done = {(line["fault"], line["phase"]) for line in RESULTS.lines()}
    wanted = set(sys.argv[2:]) or set(PHASES)
    todo = [cell for cell in CELLS if cell not in done and wanted & set(cell)][:most]
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-faults-") as folder:
        model_dir = endless(Path(folder) / "model")
        with Field(Path(folder) / "field", model_dir) as field:
            with field.cluster() as cluster:
                unbroken = cluster.text().tokens
            for cell in todo:
                run(field, *cell, unbroken)
    return RESULTS.status("WRONG")


def run(field: Field, fault: str, phase: str, unbroken: list[int]) -> None:
    """One cell, on a cluster of its own; a busy machine may need several attempts to reach it."""
    for _ in range(ATTEMPTS):
        try:
            with field.cluster() as cluster:
                line = run_cell(cluster, fault, phase, unbroken=unbroken)
                if not cluster.ended:
                    orphans, code = end(cluster)
                    line["orphans"] += orphans
                    if orphans or code:
                        line["outcome"] = f"WRONG: {orphans} orphans after down, {code}"
        except AssertionError as error:
            print(f"{fault} x {phase} was not reached: {error}", file=sys.stderr)
            continue
        RESULTS.add(line)
        return


if __name__ == "__main__":
    sys.exit(main())
