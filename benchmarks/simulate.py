"""The planner's forecast for clusters from one Mac to sixteen, over contexts.

    make bench-simulate                 # a table: Flash and Pro
    python -m benchmarks.simulate --json > benchmarks/results/simulate.json

For each: whether it fits, at which context, and what it would do there. A Mac counts with three
quarters of the memory it is sold with, which is about what its GPU may use.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from benchmarks.synthetic import CONFIGS
from dsv4_tp.cli.tables import table
from dsv4_tp.core import DType, ExpertSplit, Kernels
from dsv4_tp.errors import PlanError
from dsv4_tp.layouts import native_catalog
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.plan import Plan, make_plan
from dsv4_tp.plan.chips import LINKS, chip_named
from dsv4_tp.plan.speed import Cluster

HOSTS = {  # by model; GB as sold
    "flash": (("m4-max", 128), ("m5-max", 128), ("m3-ultra", 256)),
    "pro": (("m5-max", 128), ("m3-ultra", 256), ("m3-ultra", 512)),
}
COUNTS = (1, 2, 3, 4, 8, 16)
CONTEXTS = (8192, 131_072, 1_048_576)
USABLE = 0.75
GB = 1e9


@dataclass(frozen=True, slots=True)
class Cell:
    """A cluster at a context; tokens per second."""

    model: str
    macs: str
    context: int
    needed_gb: float
    prefill: float
    decode: float
    with_kernels: float
    limit: str


def cells() -> Iterator[Cell]:
    """Of all clusters that fit."""
    for model, hosts in HOSTS.items():
        spec = read_spec(CONFIGS / f"deepseek-v4-{model}.json")
        for chip, sold in hosts:
            for count in COUNTS:
                for context in CONTEXTS:
                    yield from _cell(spec, model, (chip, sold, count), context)


def _cell(spec: ModelSpec, model: str, macs: tuple[str, int, int], context: int) -> Iterator[Cell]:
    chip, sold, count = macs
    plan = _planned(spec, count, context)
    if plan is None or max(plan.needed_bytes) > sold * GB * USABLE:
        return
    plain, metal = (
        Cluster((chip_named(chip),) * count, LINKS["rdma"], kernels) for kernels in Kernels
    )
    step = plain.decode(plan, context)
    yield Cell(
        model,
        f"{count} {chip} {sold} GB",
        context,
        round(max(plan.needed_bytes) / GB, 1),
        round(plain.prefill(plan, context).tokens_s, 1),
        round(step.tokens_s, 1),
        round(metal.decode(plan, context).tokens_s, 1),
        step.limit,
    )


def _planned(spec: ModelSpec, count: int, context: int) -> Plan | None:
    """None: so many ranks cannot share this model."""
    try:
        return make_plan(
            spec,
            native_catalog(spec, mtp=False),
            [1] * count,
            expert_split=ExpertSplit.WIDTH,
            dtype=DType.BFLOAT16,
            context=context,
            batch=1,
        )
    except PlanError:
        return None


def as_table(found: list[Cell]) -> str:
    """A line for each."""
    rows = [
        [
            f"{cell.model}, {cell.macs}",
            str(cell.context),
            f"{cell.needed_gb:.0f}",
            f"{cell.prefill:.0f}",
            f"{cell.decode:.1f}",
            f"{cell.with_kernels:.1f}",
            cell.limit,
        ]
        for cell in found
    ]
    head = ["", "context", "GB a rank", "prefill", "decode", "kernels: metal", "most of a step"]
    return table(head, rows)


def main() -> None:
    """A table, or JSON."""
    parser = argparse.ArgumentParser(description="The forecast for clusters of many sizes.")
    parser.add_argument("--json", action="store_true")
    asked, found = parser.parse_args(), list(cells())
    if asked.json:
        json.dump([asdict(cell) for cell in found], sys.stdout)
    else:
        print(as_table(found))


if __name__ == "__main__":
    main()
