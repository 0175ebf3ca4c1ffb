"""What the weights of a rank will take, in bytes, by kind of tensor, and how many they are.

Exact, as the formats in memory are known. Caches (`cache.py`) and buffers (`buffers.py`) come on
top.
"""

from collections import Counter
from dataclasses import dataclass
from math import prod

from dsv4_tp.core import DType, Part
from dsv4_tp.layouts import Catalog, Source
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.rules import cut_shape, cuts, rule_of


@dataclass(frozen=True, slots=True)
class RankBytes:
    """The bytes of one rank's weights, by the kinds of the sharding table."""

    kinds: tuple[tuple[str, int], ...]
    largest_layer: int = 0  # the most that is in memory twice while it is loaded
    counts: tuple[tuple[str, int], ...] = ()  # of the weights, likewise

    @property
    def total(self) -> int:
        """All of them."""
        return sum(size for _, size in self.kinds)


def rank_bytes(
    spec: ModelSpec, catalog: Catalog, part: Part, dtype: DType | None = None
) -> RankBytes:
    """What a rank with `part` holds, unquantised weights as `dtype` (None: as stored)."""
    kinds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    # Layers repeat each other, and splits are tried by the dozen.
    known: dict[object, tuple[int, int]] = {}
    for source in catalog.sources:
        layer, name = _place(source.tensor.name)
        alike = (name, source.tensor.shape, source.format, source.dtype)
        if alike not in known:
            known[alike] = _held(spec, source, part, dtype)
        size, count = known[alike]
        kind = rule_of(source.tensor.name).kind
        kinds[kind] += size
        counts[kind] += count
        layers[layer] += size
    return RankBytes(tuple(kinds.items()), max(layers.values(), default=0), tuple(counts.items()))


def _held(spec: ModelSpec, source: Source, part: Part, dtype: DType | None) -> tuple[int, int]:
    """Of a tensor: how many bytes, and how many weights."""
    tensor = source.tensor
    shapes = [cut_shape(cut, tensor.shape) for cut in cuts(tensor, part, spec)]
    return sum(source.held_bytes(shape, dtype) for shape in shapes), sum(map(prod, shapes))


def _place(name: str) -> tuple[str, str]:
    """What a tensor is loaded together with, and its name without the number of a layer."""
    module, *rest = name.split(".")
    if module not in ("layers", "mtp"):
        return module, name
    return f"{module}.{rest[0]}", ".".join(rest[1:])
