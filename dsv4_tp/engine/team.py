"""The ranks that share one model: their collectives, and which vocabulary rows each one holds."""

from dataclasses import dataclass

import mlx.core as mx

from dsv4_tp.core import Part, Span
from dsv4_tp.engine.collectives import Collectives


@dataclass(frozen=True, slots=True)
class Team:
    """The ranks of one model, seen from one of them."""

    collectives: Collectives
    vocab: tuple[Span, ...]  # by rank

    @classmethod
    def of_one(cls, whole: Part) -> "Team":
        """The team of a rank that holds everything."""
        return cls(Collectives(), (whole.vocab,))

    @property
    def leads(self) -> bool:
        """Whether this rank is the one that tells tokens and scores."""
        return self.collectives.rank == 0

    @property
    def span(self) -> Span:
        """The vocabulary rows of this rank."""
        return self.vocab[self.collectives.rank]

    @property
    def vocab_size(self) -> int:
        """The rows of all ranks."""
        return max(span.stop for span in self.vocab)

    def whole(self, x: mx.array) -> mx.array:
        """Joins what each rank has for its rows: [..., len(span)] -> [..., V], on every rank."""
        return self.collectives.gather_columns(x, [len(span) for span in self.vocab])
