"""The bench suite: what a token, a context, a load, a batch and drafts cost, in counts.

    make bench                                      # all parts, kept; beside what is published
    make bench ARGS="--only bytes memory"           # some of them, looked at and not kept
    make bench ARGS=--publish                       # kept, and what later runs are held to
    make bench ARGS=--all                           # then every other bench anew, in an hour

- `counts`: operations, collectives and bytes on the wire for a token (`benchmarks.counts`)
- `bytes`, `memory`, `load`: read for a token, held, and read to load (`benchmarks.planned`)
- `cache`: bytes for each token of a context (`benchmarks.trained_rows`)
- `batch`: passes, collectives and bytes for a token, by sequences at once (`benchmarks.batching`)
- `mtp`: passes for a token, by drafts in a step (`benchmarks.drafts`)

Ends with 1 if a figure, but of `mtp`, is more than 2 % above what is published.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import batching, counts, drafts, planned, runs, trained_rows
from dsv4_tp.cli.tables import table

MODELS = ("flash", "pro")
# What takes minutes, or has times in it: each has a file of its own.
OTHERS = (
    *("peers", "simulate", "cache", "batching", "scaling", "serving", "trained_rows"),
    *(["load"] if sys.platform == "linux" else []),
)
OTHER_TIMEOUT_S = 3600
# Which of two words that are nearly as likely is taken differs by machine, and then the drafts do.
NOT_HELD = {"mtp"}

Found = Mapping[str, Mapping[str, float]]  # of a part: by what is counted, by case


def counted() -> Found:
    """Of ranks that are launched on this machine."""
    return asdict(counts.count(counts.RANKS))


def cache() -> Found:
    """Bytes of a whole model's rows for each token, held as they are and as they were trained."""
    sizes = [trained_rows.size_of(model) for model in MODELS]
    return {
        "exact": {size.model: size.exact for size in sizes},
        "trained": {size.model: size.trained for size in sizes},
    }


def batch() -> Found:
    """Of the demo model on two ranks."""
    lines = batching.on_ranks(2, "batches")
    return {
        what: {str(line["batch"]): line[what] for line in lines}
        for what in ("passes", "collectives", "wire_bytes")
    }


def mtp() -> Found:
    """Of the demo model on one rank."""
    return {"passes": {str(line.depth): line.passes for line in drafts.measure()}}


PARTS: Mapping[str, Callable[[], Found]] = {
    "counts": counted,
    "bytes": planned.ledgers,
    "memory": planned.memory,
    "load": planned.loading,
    "cache": cache,
    "batch": batch,
    "mtp": mtp,
}


def as_table(part: str, found: Found) -> str:
    """A line for each figure."""
    rows = [
        [f"{what}, {case}", f"{count:,.3f}".removesuffix(".000")]
        for what, counts in found.items()
        for case, count in counts.items()
    ]
    return table([part, ""], rows)


def renew(name: str) -> None:
    """Run another bench, and put what it finds into its file."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json"],
        check=True,
        stdout=subprocess.PIPE,
        timeout=OTHER_TIMEOUT_S,
    )
    (runs.RESULTS / f"{name}.json").write_bytes(done.stdout)


def measured(names: Sequence[str]) -> runs.Figures:
    """These parts, told as they come."""
    found: dict[str, Found] = {}
    for name in names:
        found[name] = PARTS[name]()
        print(as_table(name, found[name]), flush=True)
    return found


def main() -> None:
    """Measure, print, keep, compare."""
    parser = argparse.ArgumentParser(description="Count what everything costs.")
    some = parser.add_mutually_exclusive_group()
    some.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help="not kept")
    some.add_argument("--publish", action="store_true", help="hold later runs to this one")
    parser.add_argument("--out", type=Path, default=runs.RESULTS, metavar="DIR", help="for runs")
    parser.add_argument("--all", action="store_true", help="renew the files of other benches, too")
    given = parser.parse_args()
    figures = measured(given.only or list(PARTS))
    held = {part: found for part, found in figures.items() if part not in NOT_HELD}
    if not given.only:
        run = runs.run_of(figures)
        print(f"kept in {runs.keep(run, given.out)}")
        if given.publish:
            (runs.RESULTS / "suite.json").write_text(runs.as_json(run))
    for name in OTHERS if given.all else ():
        renew(name)
    if not given.publish:
        known = runs.published()
        if worse := [*runs.excess(held, known), *runs.missing(held, known)]:
            sys.exit("\n".join(["beside what is published:", *worse]))


if __name__ == "__main__":
    main()
