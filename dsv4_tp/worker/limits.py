"""What the requests of one rank may take."""

from functools import partial

from dsv4_tp.core import CacheRows, DType
from dsv4_tp.engine import Limits
from dsv4_tp.model import Model
from dsv4_tp.plan import cache_bytes, room_bytes


def planned_limits(
    model: Model, *, context: int, batch: int, dtype: DType, rows: CacheRows
) -> Limits:
    """As planned, but in the dtype that the rank really has."""
    spec, mtp = model.spec, model.drafts
    return Limits(
        spec.vocab_size,
        context,
        batch=batch,
        room_bytes=room_bytes(spec, context, batch, dtype, rows, mtp=mtp),
        cache_bytes=partial(cache_bytes, spec, dtype=dtype, rows=rows, mtp=mtp),
    )
