"""What is found, and how it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from dsv4_tp.cli.tables import left_table, table


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far apart logits of ours and theirs are, of the same weights and tokens."""

    model: str
    prompt: float  # the largest distance of two logits
    singly: float  # the same of the tokens that were fed one by one
    deviation: float  # the standard deviation of all logits


@dataclass(frozen=True, slots=True)
class Ratio:
    """Our time over another's, of pairs of one turn."""

    model: str
    what: str
    beside: str
    middle: float
    lower: float  # quartiles
    upper: float
    ours_ms: float  # medians
    theirs_ms: float


@dataclass(frozen=True, slots=True)
class Operations:
    """Of one layer and token, by compress ratio."""

    program: str
    how: str
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Found:
    """All of a run."""

    cores: int
    agreements: list[Agreement]
    ratios: list[Ratio]
    operations: list[Operations]


def ratio(model: str, what: str, beside: str, pairs: Sequence[tuple[float, float]]) -> Ratio:
    """Of our seconds and theirs, turn by turn."""
    ratios = [ours_s / theirs_s for ours_s, theirs_s in pairs]
    lower, middle, upper = quantiles(ratios, n=4, method="inclusive")
    ours_ms, theirs_ms = (1e3 * median(side) for side in zip(*pairs, strict=True))
    return Ratio(model, what, beside, middle, lower, upper, ours_ms, theirs_ms)


def as_table(found: Found) -> str:
    """For people."""
    agreed = [
        [it.model, f"{it.prompt:.1e}", f"{it.singly:.1e}", f"{it.deviation:.2f}"]
        for it in found.agreements
    ]
    ratios = [
        ["model", "", "beside", "ours / theirs", "quartiles", "ours", "theirs"],
        *(
            [
                *(it.model, it.what, it.beside),
                *(f"{it.middle:.2f}", f"{it.lower:.2f} to {it.upper:.2f}"),
                *(f"{it.ours_ms:.1f} ms", f"{it.theirs_ms:.1f} ms"),
            ]
            for it in found.ratios
        ),
    ]
    counted = [
        [f"{it.program}, {it.how}", *map(str, it.counts.values())] for it in found.operations
    ]
    kinds = list(found.operations[0].counts)
    return "\n\n".join(
        (
            table(["logits apart by", "prompt", "singly", "deviation"], agreed),
            left_table(ratios),
            table(["operations of a layer", *kinds], counted),
        )
    )
