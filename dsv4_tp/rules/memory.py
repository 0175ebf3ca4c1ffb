"""How a layer's memory of a sequence is laid out: the model allocates it, the planner counts it."""

from dsv4_tp.core import CacheRows
from dsv4_tp.modelspec import ModelSpec

REWIND = 16  # tokens that can always be taken back
RUN_BYTES = 64 << 20  # of a temporary array; queries are handled in runs that keep to it
# Turns that a rotary table keeps: of keys, of heads to and fro, of both kinds of pooled rows, and
# of each run of a chunk's look-ups.
TURNS = 40

FP4_BLOCK = 32  # channels that share a scale, of the indexer's trained rows

_FP8_BLOCK = 64  # the same of attention's
_WORD = 4  # bytes; trained rows are whole words
_QUANTUM = 64  # rows by which a pool grows at least
_SHARE = 32  # and by this part of what it has


def row_bytes(spec: ModelSpec, rows: CacheRows, number_bytes: int) -> int:
    """Of a row that attention reads, where a number of the activations has `number_bytes`."""
    if rows is CacheRows.EXACT:
        return spec.head_dim * number_bytes
    plain = spec.head_dim - spec.qk_rope_head_dim
    packed = _whole_words(plain + plain // fp8_block(plain))
    return packed + spec.qk_rope_head_dim * number_bytes


def index_row_bytes(spec: ModelSpec, rows: CacheRows, number_bytes: int) -> int:
    """The same of a row that an indexer scores."""
    width = spec.index_head_dim
    if rows is CacheRows.EXACT:
        return width * number_bytes
    return _whole_words(width // 2 + width // FP4_BLOCK)


def fp8_block(plain: int) -> int:
    """Channels that share a scale, of a row with so many that are not rotated."""
    return min(_FP8_BLOCK, plain)


def not_trained(spec: ModelSpec) -> str | None:
    """Why rows of such widths have no trained form; None if they have."""
    plain, width = spec.head_dim - spec.qk_rope_head_dim, spec.index_head_dim
    if plain <= 0 or plain % fp8_block(plain):
        return f"{plain} channels that are not rotated make no whole blocks of {_FP8_BLOCK}"
    if width % FP4_BLOCK or width & (width - 1):
        return f"index_head_dim {width} is no power of two from {FP4_BLOCK} on"
    return None


def _whole_words(count: int) -> int:
    return count + -count % _WORD


def reach(ratio: int) -> int:
    """Tokens before the next one that its pooled row may need; windows of ratio 4 overlap."""
    return 2 * ratio - 1 if ratio == 4 else ratio - 1


def capacity(rows: int) -> int:
    """Places of a pool that has grown, a little at a time, to hold `rows`."""
    places = 0
    while places < rows:
        places += max(1, places // _SHARE // _QUANTUM) * _QUANTUM
    return places


def run_length(length: int, query_bytes: int) -> int:
    """How many of a call's queries are handled at once if each needs so many bytes."""
    return min(length, max(1, RUN_BYTES // query_bytes))
