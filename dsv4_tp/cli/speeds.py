"""The forecast of `dsv4-tp plan --chips`: tokens per second of Macs that nobody has tried yet."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from dsv4_tp.cli.memory import homes
from dsv4_tp.cli.tables import table
from dsv4_tp.cli.wish import Wish
from dsv4_tp.core import Kernels
from dsv4_tp.plan import Plan
from dsv4_tp.plan.chips import Chip, chip_named, link_named
from dsv4_tp.plan.speed import Chunk, Cluster, Step

_CONTEXTS = (2048, 32_768, 131_072, 524_288)
_MS = 1e3


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
    """By context; with `mtp` drafts where they are asked for."""

    contexts: tuple[Forecast, ...]
    mtp: int

    def as_json(self) -> dict[str, object]:
        """All of them."""
        return {"forecast": [each.as_json() for each in self.contexts]}

    def as_table(self) -> str:
        """Contexts down; what a second brings, and where a step's time goes, across."""
        head = ["predicted tokens/s", "prefill", "decode", "kernels: metal"]
        head += [f"mtp: {self.mtp}"] if self.mtp else []
        head += ["bytes ms", "operations ms", "collectives ms", "most of it"]
        return table(head, [_row(each) for each in self.contexts])


def chips_of(text: str | None) -> tuple[Chip, ...]:
    """The chips that `--chips` names, one for each host; ConfigError if one is unknown."""
    return tuple(chip_named(name) for name in text.split(",")) if text else ()


def forecasts(result: Plan, asked: Wish, chips: Sequence[Chip], link: str) -> Forecasts:
    """By context, as far as the plan's goes; ConfigError if there are more or fewer hosts."""
    by_rank, over = _by_rank(asked, chips), link_named(link)
    plain, metal = (Cluster(by_rank, over, kernels) for kernels in Kernels)
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
    return Forecasts(tuple(found), asked.mtp)


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
