"""The forecast of `dsv4-tp plan --chips`: tokens per second of Macs that nobody has tried yet."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dsv4_tp.cli.memory import homes
from dsv4_tp.cli.tables import gigabytes, table
from dsv4_tp.cli.wish import Wish
from dsv4_tp.core import AttentionSplit, Kernels
from dsv4_tp.plan import Plan
from dsv4_tp.plan.chips import Chip, chip_named, link_named
from dsv4_tp.plan.speed import Chunk, Cluster, Step
from dsv4_tp.plan.ways import Way, Ways, ways

_CONTEXTS = (2048, 32_768, 131_072, 524_288)
_MS, _US = 1e3, 1e6


@dataclass(frozen=True, slots=True)
class Joined:
    """What joins the hosts: a link by its name, and what a sum was seen to take over it."""

    link: str
    sum_us: float | None = None

    @property
    def sum_s(self) -> float | None:
        """In seconds."""
        return self.sum_us and self.sum_us / _US


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one context. `drafted` is a step with drafts, where they were asked for."""

    context: int
    prefill: Chunk
    decode: Step
    with_kernels: Step
    drafted: Step | None

    def as_json(self) -> dict[str, object]:
        """In seconds and tokens per second."""
        parts = {
            "prefill": self.prefill,
            "decode": self.decode,
            "with_kernels": self.with_kernels,
            "drafted": self.drafted,
        }
        told = {name: part and _told(part) for name, part in parts.items()}
        return {"context": self.context, **told}


@dataclass(frozen=True, slots=True)
class Forecasts:
    """By context; with `mtp` drafts where they are asked for.

    `ways` compares the `attention` that is planned with the other; None: there is no other.
    """

    contexts: tuple[Forecast, ...]
    mtp: int
    attention: AttentionSplit
    ways: Ways | None

    def as_json(self) -> dict[str, object]:
        """All of them."""
        both = self.ways and _told_ways(self.ways)
        return {"forecast": [each.as_json() for each in self.contexts], "ways": both}

    def as_table(self) -> str:
        """Contexts down; what a second brings, and where a step's time goes, across."""
        head = ["predicted tokens/s", "prefill", "decode", "kernels: metal"]
        head += [f"mtp: {self.mtp}"] if self.mtp else []
        head += ["bytes ms", "operations ms", "collectives ms", "most of it"]
        rates = table(head, [_row(each) for each in self.contexts])
        return rates if self.ways is None else f"{rates}\n\n{advice(self.ways, self.attention)}"


def chips_of(text: str | None) -> tuple[Chip, ...]:
    """The chips that `--chips` names, one for each host; ConfigError if one is unknown."""
    return tuple(chip_named(name) for name in text.split(",")) if text else ()


def forecasts(
    result: Plan, other: Plan | None, asked: Wish, chips: Sequence[Chip], on: Joined
) -> Forecasts:
    """By context, as far as the plan's goes; ConfigError if there are more or fewer hosts.

    `other` is the same with attention the other way; None: that cannot be.
    """
    by_rank, over = _by_rank(asked, chips), link_named(on.link)
    plain, metal = (Cluster(by_rank, over, kernels, measured_sum_s=on.sum_s) for kernels in Kernels)
    found = [
        Forecast(
            context,
            plain.prefill(result, context),
            plain.decode(result, context),
            metal.decode(result, context),
            plain.decode(result, context, drafts=asked.mtp) if asked.mtp else None,
        )
        for context in _contexts(result.context)
    ]
    both = _ways(plain, result, other, found[0].context) if other and len(by_rank) > 1 else None
    return Forecasts(tuple(found), asked.mtp, result.attention, both)


def advice(both: Ways, planned: AttentionSplit) -> str:
    """Which attention is faster, what either gives, and which sums would change that."""
    (turned,) = (way for way in AttentionSplit if way is not planned)
    here, other = both.of(planned), both.of(turned)
    ours, theirs = f"{here.decode.tokens_s:.1f}", f"{other.decode.tokens_s:.1f}"
    from_us, takes_us = both.whole_pays_from_s * _US, both.sum_s * _US
    border = (
        f"whole needs {gigabytes(both.more_bytes)} GB more on a rank, and pays where a sum takes "
        f"more than {from_us:.0f} µs; here it takes {takes_us:.0f}"
    )
    rate = f"tokens/s at {both.context}"
    if both.faster is planned:
        return f"attention: {planned} gives {ours} {rate}, {turned} would give {theirs}: {border}"
    prefill = f"prefill {other.prefill.tokens_s:.0f} instead of {here.prefill.tokens_s:.0f}"
    return (
        f"attention: {turned} would give {theirs} {rate} instead of {ours}, and {prefill}: {border}"
    )


def _ways(cluster: Cluster, result: Plan, other: Plan, context: int) -> Ways:
    split, whole = sorted((result, other), key=lambda plan: plan.attention)
    return ways(cluster, split, whole, context)


def _row(each: Forecast) -> list[str]:
    step = each.decode
    rates = [each.prefill.tokens_s, step.tokens_s, each.with_kernels.tokens_s]
    rates += [each.drafted.tokens_s] if each.drafted else []
    parts = (step.bytes_s, step.operations_s, step.collectives_s)
    return [
        f"at {each.context}",
        f"{rates[0]:.0f}",
        *(f"{rate:.1f}" for rate in rates[1:]),
        *(f"{part * _MS:.1f}" for part in parts),
        step.limit,
    ]


def _contexts(most: int) -> list[int]:
    return [context for context in _CONTEXTS if context < most] + [most]


def _by_rank(asked: Wish, chips: Sequence[Chip]) -> tuple[Chip, ...]:
    """Ranks of one host share its chip."""
    places = homes(asked, "--chips", len(chips))
    by_rank = {
        rank: chip.shared_by(len(ranks))
        for (_, ranks), chip in zip(places, chips, strict=True)
        for rank in ranks
    }
    return tuple(by_rank[rank] for rank in sorted(by_rank))


def _told(part: Chunk | Step) -> dict[str, object]:
    return {**asdict(part), "tokens_s": part.tokens_s, "limit": part.limit}


def _told_ways(both: Ways) -> dict[str, object]:
    told = {"split": _told_way(both.split), "whole": _told_way(both.whole), "sum_s": both.sum_s}
    border = {"whole_pays_from_s": both.whole_pays_from_s, "faster": both.faster.value}
    border["whole_needs_more_bytes"] = both.more_bytes
    return {"context": both.context, **told, **border}


def _told_way(way: Way) -> dict[str, object]:
    prefill, decode = _told(way.prefill), _told(way.decode)
    return {"prefill": prefill, "decode": decode, "collectives": way.collectives}
