"""The planner's forecast beside what others have published of DeepSeek-V4-Flash on Macs.

    make bench-peers                    # a table
    python -m benchmarks.peers --json > benchmarks/results/peers.json

The table is followed by the time of a sum from which attention pays whole on two equal Macs, beside
what the same bytes would take at all of the bandwidth, which is how others reckon it.

Each program is planned as it shares the model out, and reckoned with its own operations and
collectives. The model's three constants come from single Macs: the share of bandwidth from the
program with the fewest operations, the time of an operation from two programs on MLX, the share
of products from MLX's prefill beside the fastest. So no speed of a pair has been fitted.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from statistics import mean, median

from benchmarks.synthetic import CONFIGS
from dsv4_tp.cli.tables import table
from dsv4_tp.core import AttentionSplit, CacheRows, DType, ExpertSplit
from dsv4_tp.layouts import native_catalog
from dsv4_tp.modelspec import read_spec
from dsv4_tp.plan import Plan, RankBytes, make_plan
from dsv4_tp.plan.chips import LINKS, chip_named
from dsv4_tp.plan.reads import step_reads
from dsv4_tp.plan.speed import OPERATION_S, PRODUCTS, REACHED, Cluster, collectives
from dsv4_tp.plan.ways import ways
from dsv4_tp.plan.work import token_flop

FLASH = read_spec(CONFIGS / "deepseek-v4-flash.json")
LAYERS = len(FLASH.compress_ratios)
MLX_OPERATIONS = {0: 480, 4: 550, 128: 482}  # of a layer, by the graphs of mlx-lm's descendants
SHORT = 1024  # tokens; what figures without a context are taken for


@dataclass(frozen=True, slots=True)
class Program:
    """How a program runs Flash.

    `whole` of the attention, and the head if so, is on every rank; `divided`: what indexers score
    for a prompt is divided over the ranks.
    """

    operations: int
    operation_s: float
    collectives: int
    whole: Fraction
    whole_head: bool = False
    divided: bool = False


MLX = sum(MLX_OPERATIONS[ratio] for ratio in FLASH.compress_ratios)
PROGRAMS: Mapping[str, Program] = {
    # wo_b, a third of the attention, is whole
    "omlx": Program(MLX, OPERATION_S, 2 * LAYERS, Fraction(1, 3), divided=True),
    "exo": Program(MLX, OPERATION_S, 2 * LAYERS, Fraction(1, 3), whole_head=True),
    "adurham": Program(MLX, OPERATION_S, LAYERS, Fraction(1), whole_head=True, divided=True),
    # it counts and times its own dispatches
    "ds4": Program(1021, 1.9e-6, 2 * LAYERS + 1, Fraction(0)),
}


@dataclass(frozen=True, slots=True)
class Published:
    """A figure: tokens per second. Sources are in docs/speed.md."""

    program: str
    chips: tuple[str, ...]
    split: tuple[int, ...]
    context: int
    decode: float | None = None
    prefill: float | None = None
    link: str = "rdma"


M3M5, M4M4 = ("m3-ultra", "m5-max"), ("m4-max", "m4-max")
PAIRS: tuple[Published, ...] = (
    Published("omlx", M3M5, (1, 1), SHORT, decode=30.0),
    Published("omlx", M3M5, (3, 5), SHORT, decode=31.95),
    Published("exo", ("m5-max", "m4-max"), (1, 1), SHORT, decode=27.0),
    Published("adurham", M4M4, (1, 1), SHORT, decode=30.0),
    Published("adurham", M4M4, (1, 1), 100_000, decode=26.9),
    Published("adurham", M4M4, (1, 1), 300_000, decode=24.4),
    Published("adurham", M4M4, (1, 1), 500_000, decode=21.5),
    Published("ds4", ("m2-ultra", "m2-ultra"), (1, 1), SHORT, decode=41.4),
    Published("ds4", M4M4, (1, 1), SHORT, decode=22.7, link="tcp"),
    Published("omlx", M3M5, (1, 1), 30_000, prefill=742),
    Published("omlx", M3M5, (1, 1), 100_000, prefill=685),
    Published("omlx", M3M5, (3, 5), 30_000, prefill=852),
    Published("omlx", M3M5, (3, 5), 100_000, prefill=781),
    Published("omlx", M3M5, (3, 5), 250_000, prefill=622),
    Published("adurham", M4M4, (1, 1), 100_000, prefill=360),
    Published("adurham", M4M4, (1, 1), 300_000, prefill=348),
    Published("adurham", M4M4, (1, 1), 500_000, prefill=324),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A figure and the forecast of it; `error` is relative."""

    published: Published
    forecast: float

    @property
    def error(self) -> float:
        """Above 0: the forecast is higher."""
        return self.forecast / (self.published.decode or self.published.prefill or 1.0) - 1


def shared_out(
    split: Sequence[int],
    attention: AttentionSplit = AttentionSplit.SPLIT,
    dtype: DType | None = DType.BFLOAT16,
) -> Plan:
    """Flash as we share it out."""
    return make_plan(
        FLASH,
        native_catalog(FLASH, mtp=False),
        split,
        expert_split=ExpertSplit.WIDTH,
        attention=attention,
        dtype=dtype,
        chunk=4096,
    )


def planned(split: Sequence[int], program: Program | None = None) -> Plan:
    """Flash shared out as a program does it; by ours if none is given."""
    # What we hold in float32 the others have as it is released, as far as we know.
    plan = shared_out(split, dtype=None if program else DType.BFLOAT16)
    if program is None or len(split) == 1:
        return plan
    whole = planned((1,), program)
    held = tuple(_held(ours, whole.rank_bytes[0], program) for ours in plan.rank_bytes)
    parts = whole.parts * len(split) if program.whole == 1 else plan.parts
    return replace(plan, rank_bytes=held, parts=parts)


def _held(ours: RankBytes, all_of_it: RankBytes, program: Program) -> RankBytes:
    shares = {"attention": program.whole, "head": Fraction(program.whole_head)}

    def laid_out(ours: Mapping[str, int], whole: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
        mixed = {
            kind: shares.get(kind, Fraction(0)) * whole[kind]
            + (1 - shares.get(kind, Fraction(0))) * size
            for kind, size in ours.items()
        }
        return tuple((kind, int(size)) for kind, size in mixed.items())

    return replace(
        ours,
        kinds=laid_out(dict(ours.kinds), dict(all_of_it.kinds)),
        counts=laid_out(dict(ours.counts), dict(all_of_it.counts)),
    )


def forecast(figure: Published) -> float:
    """Tokens per second, by the planner's model and the program's own counts."""
    program, plan = PROGRAMS[figure.program], planned(figure.split, PROGRAMS[figure.program])
    link = LINKS[figure.link]
    cluster = Cluster(tuple(map(chip_named, figure.chips)), link, divided=program.divided)
    if figure.prefill:
        chunk = cluster.prefill(plan, figure.context)
        sums = program.collectives / (collectives(plan) - 1)  # of those that we would make
        return replace(chunk, sums_s=chunk.sums_s * sums).tokens_s
    ours = cluster.decode(plan, figure.context)
    its = replace(
        ours,
        operations_s=program.operations * program.operation_s,
        collectives_s=program.collectives * link.hop_s,
    )
    return its.tokens_s


def lines() -> list[Line]:
    """All figures of pairs."""
    return [Line(figure, forecast(figure)) for figure in PAIRS]


def borders_us(chip: str) -> tuple[float, float]:
    """The time of a sum from which attention pays whole on two such Macs; at all the bandwidth."""
    split, whole = (shared_out((1, 1), way) for way in AttentionSplit)
    found = ways(Cluster((chip_named(chip),) * 2, LINKS["rdma"]), split, whole, SHORT)
    return found.whole_pays_from_s * 1e6, found.whole_pays_from_s * 1e6 * REACHED


def fitted() -> dict[str, float]:
    """The three constants, from figures of an M3 Ultra alone."""
    one = planned((1,), PROGRAMS["ds4"])
    kinds = dict(one.rank_bytes[0].kinds)
    reads = step_reads(kinds, FLASH, DType.BFLOAT16, CacheRows.EXACT, batch=1, context=SHORT)
    ds4, size = PROGRAMS["ds4"], sum(reads.values())
    bandwidth = chip_named("m3-ultra").bandwidth_bytes_s
    reached = size / bandwidth / (1 / 45.7 - ds4.operations * ds4.operation_s)
    rest_s = [1 / rate - size / bandwidth / reached for rate in (29.0, 32.0)]  # omlx, mlx-vlm
    return {
        "reached": reached,
        "operation_s": mean(rest_s) / MLX,
        "products": 537 / 661,  # omlx beside ds4, about a thousand tokens
    }


def products(prefill_tokens_s: float) -> float:
    """What a chip does in a second by its figure, of prompts of about a thousand tokens."""
    counts = dict(planned((1,)).rank_bytes[0].counts)
    heads = FLASH.num_attention_heads
    return prefill_tokens_s * sum(token_flop(FLASH, counts, heads=heads, context=SHORT).values())


def as_table(found: Sequence[Line]) -> str:
    """What was published, and the forecast."""
    rows = [
        [
            f"{line.published.program}, {' + '.join(line.published.chips)}",
            ":".join(map(str, line.published.split)),
            line.published.link,
            str(line.published.context),
            "decode" if line.published.decode else "prefill",
            f"{line.published.decode or line.published.prefill:g}",
            f"{line.forecast:.1f}",
            f"{line.error:+.0%}",
        ]
        for line in found
    ]
    head = ["tokens/s", "split", "link", "context", "", "published", "forecast", "error"]
    return table(head, rows)


def main() -> None:
    """A table, or JSON."""
    parser = argparse.ArgumentParser(description="The forecast beside published figures.")
    parser.add_argument("--json", action="store_true")
    asked, found = parser.parse_args(), lines()
    if asked.json:
        json.dump([{**asdict(line), "error": line.error} for line in found], sys.stdout)
        return
    print(as_table(found))
    for what in ("decode", "prefill"):
        errors = [abs(line.error) for line in found if getattr(line.published, what)]
        print(f"{what}: median error {median(errors):.0%}, largest {max(errors):.0%}")
    for chip in ("m3-ultra", "m5-max", "m4-max"):
        border_us, at_all_us = borders_us(chip)
        beside = f"at all of the bandwidth {at_all_us:.0f}"
        print(f"whole attention on 2 {chip}: from {border_us:.0f} µs a sum, {beside}")
    print(f"fitted: {fitted()}; used: {REACHED}, {OPERATION_S}, {PRODUCTS}")


if __name__ == "__main__":
    main()
