"""Measures what loading a rank costs: bytes off the disk, and memory at its peak.

Each rank is loaded in a process of its own, through `load_rank` as a worker does it, with none of
the checkpoint in the page cache: straight from its files, and from a prepared set. What the disk
gave is the kernel's own count, `read_bytes` of /proc/self/io; it holds what was read ahead for
nothing. The ideal is the sum of the bytes of the rank's pieces. Memory is the process's high-water
mark above what it held before, and MLX's own.

Beside it stands mlx-lm's order, as its `sharded_load` has it: every file is loaded lazily, tensors
are stacked and cut as arrays, and all is evaluated at once.

    python -m benchmarks.load --model DIR [--json]

Without `--model` two layers of Flash are written first, of 7.3 GB. Prepared sets of the same size
come and go, one at a time; all that is in the directory for temporary files. Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import cast

import mlx.core as mx

from benchmarks import synthetic
from benchmarks.page_cache import evict
from dsv4_tp.checkpoint import adopt
from dsv4_tp.core import DType, ExpertSplit, Part
from dsv4_tp.layouts import Catalog
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import fill_set, plan_reads, project, read_catalog, start_set
from dsv4_tp.rules import Cut, cuts

RANKS = (2, 4)
# Of the checkpoint that is written; with fewer experts attention would weigh more than it does.
RATIOS, EXPERTS = (4, 128), 256
DTYPE = DType.BFLOAT16
LOAD_TIMEOUT_S = 600


class Way(StrEnum):
    """How a rank's weights come into memory."""

    STOCK = "mlx-lm's order"
    STRAIGHT = "straight"
    PREPARED = "prepared"


# Most bytes off the disk for each ideal one, as we promised ourselves.
TARGETS = {
    (Way.STRAIGHT, ExpertSplit.WIDTH, 2): 1.4,
    (Way.STRAIGHT, ExpertSplit.WIDTH, 4): 2.1,
    (Way.STRAIGHT, ExpertSplit.WHOLE, 2): 1.05,
    (Way.STRAIGHT, ExpertSplit.WHOLE, 4): 1.05,
} | {(Way.PREPARED, experts, ranks): 1.02 for experts in ExpertSplit for ranks in RANKS}


@dataclass(frozen=True, slots=True)
class Case:
    """One rank to be loaded in one way."""

    way: Way
    experts: ExpertSplit
    ranks: int
    rank: int

    @property
    def options(self) -> list[str]:
        """Of the process that loads it."""
        numbers = ["--of", str(self.ranks), "--rank", str(self.rank)]
        return ["--way", self.way, "--experts", self.experts, *numbers]


@dataclass(frozen=True, slots=True)
class Cost:
    """What loading one rank took, in bytes."""

    ideal: int  # of its pieces
    disk: int  # that the kernel read
    asked: int  # that the process asked the kernel for
    held: int  # its weights in memory
    largest_group: int  # of what is read together, its weights as stored
    peak_rss: int  # above what the process held before
    peak_mlx: int


def measured(model_dir: Path, case: Case) -> Cost:
    """The cost of a case, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.load", "--model", model_dir, *case.options]
    done = subprocess.run(
        command,
        check=True,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        timeout=LOAD_TIMEOUT_S,
    )
    return Cost(**json.loads(done.stdout))


def cost_here(model_dir: Path, case: Case) -> Cost:
    """Load a rank into this process with a cold page cache, and what that cost."""
    spec = read_spec(model_dir)
    found = read_catalog(model_dir, spec, mtp=False)
    weights = (1,) * case.ranks
    part = make_plan(spec, found, weights, expert_split=case.experts).parts[case.rank]
    groups = plan_reads(model_dir, spec, found, part).values()
    read = [[p.nbytes for load in group for p in load.pieces.values()] for group in groups]
    for file in model_dir.rglob("*.safetensors"):
        evict(file)
    before, resident = _io(), _status("VmRSS")
    held = LOADERS[case.way](model_dir, spec, found, part)
    after = _io()
    return Cost(
        ideal=sum(map(sum, read)),
        disk=after["read_bytes"] - before["read_bytes"],
        asked=after["rchar"] - before["rchar"],
        held=held,
        largest_group=max(map(sum, read)),
        peak_rss=_status("VmHWM") - resident,
        peak_mlx=mx.get_peak_memory(),
    )


def load_ours(model_dir: Path, _spec: ModelSpec, _found: Catalog, part: Part) -> int:
    """As a worker loads its rank; the bytes it then holds."""
    return load_rank(model_dir, part, dtype=DTYPE).weight_bytes


def load_stock(model_dir: Path, spec: ModelSpec, found: Catalog, part: Part) -> int:
    """In the order of mlx-lm: all files lazily, all tensors cut as arrays, one evaluation."""
    held = _stock(model_dir, spec, found, part)
    mx.eval(held)
    return sum(array.nbytes for array in held)


LOADERS: dict[Way, Callable[[Path, ModelSpec, Catalog, Part], int]] = {
    Way.STOCK: load_stock,
    Way.STRAIGHT: load_ours,
    Way.PREPARED: load_ours,
}


def _stock(model_dir: Path, spec: ModelSpec, found: Catalog, part: Part) -> list[mx.array]:
    arrays: dict[str, mx.array] = {}
    for file in sorted(model_dir.glob("*.safetensors")):
        arrays |= cast(dict[str, mx.array], mx.load(str(file)))
    whole = adopt(spec, arrays, dtype=DTYPE).parameters
    held: list[mx.array] = []
    for source in found.sources:
        for own in cuts(source.tensor, part, spec):
            (all_of_it,) = cuts(source.tensor, spec.whole, spec)
            base = all_of_it.name.removesuffix(".weight")
            names = (all_of_it.name, f"{base}.scales", f"{base}.biases")
            held += [
                mx.contiguous(_cut(whole[name], own, source.tensor.shape))
                for name in names
                if name in whole
            ]
    return held


def _cut(array: mx.array, cut: Cut, shape: tuple[int, ...]) -> mx.array:
    """The part of an array that a cut of a tensor of `shape` takes, however its rows are packed."""
    spans = (cut.experts, cut.rows, cut.columns)[-len(shape) :] if len(shape) > 1 else (cut.rows,)
    for axis, (span, size) in enumerate(zip(spans, shape, strict=True)):
        if span is not None:
            bounds = [place * array.shape[axis] // size for place in (span.start, span.stop)]
            array = mx.split(array, bounds, axis)[1]
    return array


def _io() -> dict[str, int]:
    """The kernel's counts of what this process has read and written."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return {name: int(count) for name, _, count in (line.partition(": ") for line in lines)}


def _status(key: str) -> int:
    """A size of this process in bytes, by its name in /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (size,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(size) << 10


def measure_all(model_dir: Path, ranks: tuple[int, ...]) -> dict[Case, Cost]:
    """The cost of every case; of mlx-lm's order one rank, since each reads everything."""
    costs: dict[Case, Cost] = {}
    for number in ranks:
        stock = Case(Way.STOCK, ExpertSplit.WIDTH, number, 0)
        costs[stock] = measured(model_dir, stock)
        for experts in ExpertSplit:
            costs |= _each_rank(model_dir, Way.STRAIGHT, experts, number)
            with prepared_set(model_dir, experts, number) as made:
                costs |= _each_rank(made, Way.PREPARED, experts, number)
    return costs


def _each_rank(model_dir: Path, way: Way, experts: ExpertSplit, number: int) -> dict[Case, Cost]:
    cases = (Case(way, experts, number, rank) for rank in range(number))
    return {case: measured(model_dir, case) for case in cases}


@contextmanager
def prepared_set(model_dir: Path, experts: ExpertSplit, ranks: int) -> Generator[Path]:
    """A prepared set for equal ranks, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        made = project(model_dir, (1,) * ranks, experts)
        small = {name: file.read_bytes() for name, file in made.small_files.items()}
        start_set(Path(folder), made.manifest, small)
        fill_set(Path(folder), made.files, lambda _done, _total: None)
        yield Path(folder)


def table(costs: dict[Case, Cost]) -> str:
    """The worst rank of each kind of case, for a person."""
    heads = ("ranks", "disk/ideal", "target", "asked/ideal", "RSS/held", "RSS/+group", "MLX/held")
    lines = [_row("", "", *heads)]
    for kind, group in groupby(costs, key=lambda case: (case.way, case.experts, case.ranks)):
        own = [costs[case] for case in group]
        worst = (
            max(cost.disk / cost.ideal for cost in own),
            max(cost.asked / cost.ideal for cost in own),
            max(cost.peak_rss / cost.held for cost in own),
            max(cost.peak_rss / (cost.held + cost.largest_group) for cost in own),
            max(cost.peak_mlx / cost.held for cost in own),
        )
        disk, *rest = (f"{ratio:.3f}" for ratio in worst)
        lines.append(_row(*kind, disk, TARGETS.get(kind, ""), *rest))
    return "\n".join(lines)


def _row(way: str, experts: str, *columns: object) -> str:
    return f"{way:16}{experts:6}" + "".join(f"{column:>13}" for column in columns)


def report(model_dir: Path, ranks: tuple[int, ...], *, as_json: bool) -> None:
    """Measure and print."""
    costs = measure_all(model_dir, ranks)
    if as_json:
        print(json.dumps([asdict(case) | asdict(cost) for case, cost in costs.items()]))
    else:
        print(table(costs))


def main() -> None:
    """Measure all cases, or with --way the one in this process."""
    parser = argparse.ArgumentParser(description="Measure what loading a rank costs.")
    parser.add_argument("--model", type=Path, help="a checkpoint; default: one is written")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS, help="default: 2 4")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    one = parser.add_argument_group("one case in this process, as JSON")
    one.add_argument("--way", type=Way, choices=list(Way))
    one.add_argument("--experts", type=ExpertSplit, default=ExpertSplit.WIDTH)
    one.add_argument("--of", type=int)
    one.add_argument("--rank", type=int)
    given = parser.parse_args()
    if given.way is not None:
        case = Case(given.way, given.experts, given.of, given.rank)
        print(json.dumps(asdict(cost_here(given.model, case))))
    elif given.model is not None:
        report(given.model, tuple(given.ranks), as_json=given.json)
    else:
        with tempfile.TemporaryDirectory() as folder:
            model_dir = Path(folder) / "part"
            flash = json.loads((synthetic.CONFIGS / "deepseek-v4-flash.json").read_text())
            config = synthetic.smaller(flash, RATIOS, EXPERTS, synthetic.DEFAULT_VOCAB)
            synthetic.write(model_dir, config, seed=0)
            report(model_dir, tuple(given.ranks), as_json=given.json)


if __name__ == "__main__":
    main()
