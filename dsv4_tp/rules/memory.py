"""How a layer's memory of a sequence is laid out: the model allocates it, the planner counts it."""

REWIND = 16  # tokens that can always be taken back
RUN_BYTES = 64 << 20  # of a temporary array; queries are handled in runs that keep to it

_QUANTUM = 64  # rows by which a pool grows at least
_SHARE = 32  # and by this part of what it has


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
