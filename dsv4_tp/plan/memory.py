"""What a rank will hold, in bytes, by kind of tensor.

Weights only: caches and activations come on top. Exact, as the formats in memory are known.
"""

from collections import Counter
from dataclasses import dataclass

from dsv4_tp.core import DType, Part
from dsv4_tp.layouts import Catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import cut_shape, cuts, rule_of


@dataclass(frozen=True, slots=True)
class RankBytes:
    """The bytes of one rank's weights, by the kinds of the sharding table."""

    kinds: tuple[tuple[str, int], ...]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(size for _, size in self.kinds)


def rank_bytes(
    spec: ModelSpec, catalog: Catalog, part: Part, dtype: DType | None = None
) -> RankBytes:
    """What a rank with `part` holds, unquantised weights as `dtype` (None: as stored)."""
    kinds: Counter[str] = Counter()
    for source in catalog.sources:
        tensor = source.tensor
        shapes = (cut_shape(cut, tensor.shape) for cut in cuts(tensor, part, spec))
        kinds[rule_of(tensor.name).kind] += sum(source.held_bytes(shape, dtype) for shape in shapes)
    return RankBytes(tuple(kinds.items()))
