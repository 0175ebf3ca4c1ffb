"""What fills a model: one Source per tensor, and the list of what was left out."""

from dataclasses import dataclass, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from math import prod

from dsv4_tp.core import DType
from dsv4_tp.layouts.formats import FLOATS, PLAIN, TORCH_DTYPES, Format
from dsv4_tp.layouts.headers import DTYPE_BYTES, Entry
from dsv4_tp.modelspec import Stored, Tensor

# Tensors (globs) that the model computes with as plain numbers, however a file packs them.
_UNPACKED = ("*.ffn.gate.weight",)
# Those that meet float32. Held in 16 bits, MLX would convert them whole for every token.
_PRECISE = ("*.ffn.gate.weight", "*.compressor.wkv.*", "*.compressor.wgate.*", "head.*")


class Drafter(StrEnum):
    """What a checkpoint has to predict further tokens with."""

    NONE = "none, and config.json announces none"
    NEXTN = "MTP stages"
    STRIPPED = "none, although config.json announces MTP stages"
    DSPARK = "a DSpark drafter, which is not used yet"


@dataclass(frozen=True, slots=True)
class Source:
    """Where one tensor comes from, as blocks of two dimensions that may be parts of one entry.

    A block for each routed expert; a matrix is one block, or several with equally many rows each.
    `scales` is empty unless the format is quantised, `biases` unless it is affine; in a catalog
    without files all are.
    """

    tensor: Tensor
    format: Format
    dtype: str  # in safetensors' words, of the weights; of an affine format's scales
    weights: tuple[Entry, ...] = ()
    scales: tuple[Entry, ...] = ()
    biases: tuple[Entry, ...] = ()

    @property
    def held(self) -> Format:
        """The format in memory: a few tensors are unpacked when they are loaded."""
        return PLAIN if is_unpacked(self.tensor.name) else self.format

    def held_dtype(self, wanted: DType | None) -> str:
        """In what dtype unquantised values are held in memory, in safetensors' words.

        Integers are int32, what the reference keeps or multiplies in fp32 is fp32, and all else,
        an affine format's scales among it, becomes the `wanted` dtype (None: as stored).
        """
        if self.tensor.stored is Stored.INT:
            return "I32"
        if self.tensor.stored is Stored.F32:
            return "F32"
        if wanted is not None:
            return "F32" if _is_any(self.tensor.name, _PRECISE) else TORCH_DTYPES[wanted.value]
        return self.dtype if self.dtype in FLOATS else "BF16"  # of values without a dtype

    def held_bytes(self, shape: tuple[int, ...], wanted: DType | None) -> int:
        """The bytes in memory of a piece of logical `shape`, its scales and biases included."""
        values, form = prod(shape), self.held
        if not form.quantised:
            return values * DTYPE_BYTES[self.held_dtype(wanted)]
        per_group = 2 * DTYPE_BYTES[self.held_dtype(wanted)] if form.affine else 1
        return values * form.bits // 8 + values // form.group * per_group


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
    layout: str = ""  # whose names the files have, in words
    drafter: Drafter = Drafter.NONE

    @property
    def has_mtp(self) -> bool:
        """Whether the MTP stages are among the sources."""
        return any(source.tensor.name.startswith("mtp.") for source in self.sources)


def is_unpacked(name: str) -> bool:
    """Whether the tensor of this path is held as plain numbers, however stored."""
    return _is_any(name, _UNPACKED)


def _is_any(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def rows_of(entry: Entry, first: int, count: int) -> Entry:
    """`count` rows of the entry from row `first` on, as an entry of its own."""
    row_bytes = entry.nbytes // entry.shape[0]
    return replace(
        entry,
        shape=(count, *entry.shape[1:]),
        offset=entry.offset + first * row_bytes,
        nbytes=count * row_bytes,
    )


def stacked(entry: Entry) -> tuple[Entry, ...]:
    """The matrices of an entry of three dimensions, one after the other."""
    number, *shape = entry.shape
    size = entry.nbytes // number
    return tuple(
        replace(entry, shape=tuple(shape), offset=entry.offset + at * size, nbytes=size)
        for at in range(number)
    )
