"""What fills a model: one Source per tensor, and the list of what was left out."""

from dataclasses import dataclass
from math import prod

from dsv4_tp.core import DType
from dsv4_tp.layouts.formats import GROUP, TORCH_DTYPES, Format
from dsv4_tp.layouts.headers import DTYPE_BYTES, Entry
from dsv4_tp.modelspec import Stored, Tensor


@dataclass(frozen=True, slots=True)
class Source:
    """Where one tensor comes from: an entry for each routed expert, else a single one.

    `scales` is empty unless the format is quantised; both are empty in a catalog without files.
    """

    tensor: Tensor
    format: Format
    dtype: str  # of the weights, in safetensors' words
    weights: tuple[Entry, ...] = ()
    scales: tuple[Entry, ...] = ()

    def held_dtype(self, wanted: DType | None) -> str:
        """In what dtype an unquantised tensor is held in memory, in safetensors' words.

        Integers are int32, what the reference keeps in fp32 stays so, and all else becomes the
        `wanted` dtype (None: as stored).
        """
        if self.tensor.stored is Stored.INT:
            return "I32"
        if self.tensor.stored is Stored.F32:
            return "F32"
        return TORCH_DTYPES[wanted.value] if wanted else self.dtype

    def held_bytes(self, shape: tuple[int, ...], wanted: DType | None) -> int:
        """The bytes in memory of a piece of logical `shape`, its scales included."""
        values = prod(shape)
        if self.format.quantised:
            return values * self.format.bits // 8 + values // GROUP
        return values * DTYPE_BYTES[self.held_dtype(wanted)]


@dataclass(frozen=True, slots=True)
class Dropped:
    """A name of the files that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that fills a model, all that was left out, and what the user should know."""

    sources: tuple[Source, ...]
    dropped: tuple[Dropped, ...] = ()
    notes: tuple[str, ...] = ()
