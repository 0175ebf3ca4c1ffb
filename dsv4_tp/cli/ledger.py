"""The ledger of `dsv4-tp plan --ledger`: what each rank reads from its memory for a token."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp.cli.tables import gigabytes, table
from dsv4_tp.plan import Plan, Replan
from dsv4_tp.plan.reads import step_reads

_ALL = "all"
Reads = Mapping[str, int]  # bytes by kind


@dataclass(frozen=True, slots=True)
class Ledger:
    """Of a token after `context` others. A share is even where no byte is read by two ranks."""

    context: int
    ranks: tuple[Reads, ...]
    even_share: Reads

    def as_json(self) -> dict[str, object]:
        """In bytes."""
        return {"read_bytes": list(self.ranks), "even_share_bytes": self.even_share}

    def as_table(self) -> str:
        """Kinds down, ranks across, in GB."""
        columns = (*self.ranks, self.even_share)
        rows = [[kind, *(gigabytes(each[kind]) for each in columns)] for kind in self.even_share]
        names = [f"rank {rank}" for rank in range(len(self.ranks))]
        return table([f"GB read at {self.context} tokens", *names, "even share"], rows)


def ledger_of(result: Plan, replan: Replan, context: int) -> Ledger:
    """Of the plan, and of the one that `replan` makes for a single rank."""
    ranks = tuple(_reads(result, dict(held.kinds), context) for held in result.rank_bytes)
    whole = _reads(result, dict(replan((1,)).rank_bytes[0].kinds), context)
    return Ledger(context, ranks, {kind: size // len(ranks) for kind, size in whole.items()})


def _reads(result: Plan, kinds: Reads, context: int) -> Reads:
    how = (result.spec, result.dtype, result.cache_rows)
    reads = step_reads(kinds, *how, batch=1, context=context)
    return {**reads, _ALL: sum(reads.values())}
