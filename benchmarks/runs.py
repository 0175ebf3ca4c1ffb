"""Runs of the suite: what they found and where, kept as JSON and as a line of their machine's CSV.

    results/suite.json             what is published; later runs are held to it
    results/runs/MACHINE-DATE.json each run
    results/machines/MACHINE.csv   the same, a line for each

A machine is named by its system, its chip and its cores, not by its owner. All figures are counts
of what is spent, so that less is better; times are not among them.
"""

import csv
import json
import os
import platform
import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx

RESULTS = Path(__file__).parent / "results"
ALLOWANCE = 0.02  # over what is published
_GIT_TIMEOUT_S = 10
_CODE = (":/*.py", ":/*.metal", ":/*.c")

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]  # by part, by what is counted, by case


@dataclass(frozen=True, slots=True)
class Run:
    """What a run found, of which commit and where; `date` is UTC."""

    date: str
    machine: str
    commit: str
    mlx: str
    figures: Figures


def run_of(figures: Figures) -> Run:
    """With what is to be known of this machine and this tree."""
    date = datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")
    name = machine(platform.system(), str(mx.device_info().get("device_name", "")))
    return Run(date, name, commit(), version("mlx"), figures)


def machine(system: str, chip: str) -> str:
    """Its name, such as `darwin-apple-m3-ultra-32` or `linux-x86_64-2`."""
    kind = chip if system == "Darwin" and chip else platform.machine()
    return re.sub(r"[^a-z0-9_]+", "-", f"{system} {kind} {os.cpu_count()}".lower())


def commit() -> str:
    """Which one is measured, with a + if its code was changed since; `unknown` without git."""
    name = _git("rev-parse", "--short", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", *_CODE)
    return f"{name}+" if changes else name or "unknown"


def _git(*words: str) -> str:
    """What it says of this tree; nothing if it is not there, or cannot."""
    command = ["git", "-C", str(RESULTS), *words]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=_GIT_TIMEOUT_S
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def flat(figures: Figures) -> dict[str, float]:
    """By one name each, such as `cache.exact.flash`."""
    return {
        f"{part}.{what}.{case}": count
        for part, found in figures.items()
        for what, counts in found.items()
        for case, count in counts.items()
    }


def excess(found: Figures, published: Figures) -> list[str]:
    """A line for each figure that is more than was published, and by more than is allowed."""
    known = flat(published)
    return [
        f"{name}: {count:g}, published {known[name]:g}"
        for name, count in flat(found).items()
        if name in known and count > known[name] * (1 + ALLOWANCE)
    ]


def missing(found: Figures, published: Figures) -> list[str]:
    """A line for each figure that was published of these parts and is not among them."""
    known = flat({part: figures for part, figures in published.items() if part in found})
    return [f"{name}: no longer counted" for name in known if name not in flat(found)]


def published() -> Figures:
    """Those of results/suite.json."""
    return json.loads((RESULTS / "suite.json").read_text())["figures"]


def keep(run: Run, results: Path) -> Path:
    """The run's own file, which is new; a line is added to those of its machine."""
    file = results / "runs" / f"{run.machine}-{run.date}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_json(run))
    _add_line(run, results / "machines" / f"{run.machine}.csv")
    return file


def as_json(run: Run) -> str:
    """A figure on each line, so that changes can be read."""
    return json.dumps(asdict(run), indent=1) + "\n"


def _add_line(run: Run, file: Path) -> None:
    """Columns that no earlier line has are added to all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines: list[Mapping[str, object]] = []
    if file.exists():
        with file.open(newline="") as stream:
            lines += csv.DictReader(stream)
    head = {"date": run.date, "commit": run.commit, "mlx": run.mlx}
    lines.append({**head, **flat(run.figures)})
    with file.open("w", newline="") as stream:
        columns = dict.fromkeys(name for line in lines for name in line)
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
