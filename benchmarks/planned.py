"""What plans say of Flash and Pro: bytes read for a token, memory held, bytes read to load.

Counts, of the released shapes; nothing is measured and no weight is read. What is read and held is
that of `dsv4-tp plan --ledger`, from a config alone. What loading reads is known from the headers
of a checkpoint, here of a sparse one; the ideal is the bytes of the rank's own pieces.
"""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import synthetic
from dsv4_tp.cli.ledger import ledger_of
from dsv4_tp.core import DType, ExpertSplit
from dsv4_tp.layouts import Catalog, native_catalog
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.pieces import plan_loads
from dsv4_tp.plan import Plan, make_plan
from dsv4_tp.prepared import read_catalog

CLUSTERS = (("flash", 2), ("flash", 4), ("pro", 8))
CONTEXT = 131_072
LOADED_ON = (2, 4)  # ranks, of Flash

Counts = dict[str, dict[str, float]]  # by what is counted, then by case


def planned(model: str, ranks: int) -> Plan:
    """Of equal ranks that share every expert."""
    spec = read_spec(synthetic.CONFIGS / f"deepseek-v4-{model}.json")
    return shared(spec, native_catalog(spec, mtp=False), [1] * ranks, ExpertSplit.WIDTH)


def shared(spec: ModelSpec, found: Catalog, weights: Sequence[int], split: ExpertSplit) -> Plan:
    """A model in shares of these weights; one sequence at a time, in bfloat16."""
    return make_plan(
        spec, found, weights, expert_split=split, dtype=DType.BFLOAT16, context=CONTEXT, batch=1
    )


def ledgers() -> Counts:
    """Bytes that the busiest rank reads for a token behind the context, by kind; an even share."""
    return {f"{model} on {ranks}": _ledger(model, ranks) for model, ranks in CLUSTERS}


def _ledger(model: str, ranks: int) -> dict[str, float]:
    def replan(weights: Sequence[int]) -> Plan:
        return planned(model, len(weights))

    ledger = ledger_of(planned(model, ranks), replan, CONTEXT)
    busiest = max(ledger.ranks, key=lambda reads: reads["all"])
    return {**busiest, "even share": ledger.even_share["all"]}


def memory() -> Counts:
    """Bytes that the fullest rank has to have room for, by what for."""
    return {f"{model} on {ranks}": _held(planned(model, ranks)) for model, ranks in CLUSTERS}


def _held(plan: Plan) -> dict[str, float]:
    return {
        "weights": max(held.total for held in plan.rank_bytes),
        "caches": plan.cache_bytes,
        "snapshots": plan.prefix_bytes,
        "buffers": max(plan.buffer_bytes),
        "all": max(plan.needed_bytes),
    }


def loading() -> Counts:
    """Bytes that a rank asks of a checkpoint of Flash for each that it holds.

    It is the first of equal ranks, which differ by some bytes.
    """
    config = json.loads((synthetic.CONFIGS / "deepseek-v4-flash.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        synthetic.write(model_dir := Path(folder) / "flash", config, seed=None)
        spec = read_spec(model_dir)
        catalog = read_catalog(model_dir, spec, mtp=False)

    def asked(split: ExpertSplit, ranks: int) -> float:
        part = shared(spec, catalog, [1] * ranks, split).parts[0]
        loads = [load for group in plan_loads(catalog, part, spec).values() for load in group]
        ideal = sum(piece.nbytes for load in loads for piece in load.pieces.values())
        return sum(load.span_bytes for load in loads) / ideal

    return {
        f"experts: {split}": {str(ranks): asked(split, ranks) for ranks in LOADED_ON}
        for split in ExpertSplit
    }
