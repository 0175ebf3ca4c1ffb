"""Where numbers go wrong: tokens are fed once more, and each rank looks at all that it adds up.

Behind a sum every rank has what one of them put into it; so the rank shows before the sum only.
"""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from dsv4_tp.engine.team import Team
from dsv4_tp.model import Cache, Model

_NEXT = "launch again; if it comes back, compare that host's copy of the model with another"


def find_fault(model: Model, team: Team, ids: Sequence[int], cache: Cache, *, position: int) -> str:
    """Appends ids to the cache; what is wrong with them, the same on all ranks, or nothing.

    A layer has two sums, or two for each half of the tokens: what its heads read, which may be
    whole already, then what its experts made of it.
    """
    with team.collectives.watched() as parts:
        streams = model.streams(mx.array([ids], dtype=mx.int32), cache)
    sound = mx.stack([*parts, mx.isfinite(model.logits(streams[:, -1:])).all()])
    team.collectives.evaluate(sound, cache.arrays())
    first = int(np.argmin([*np.array(sound, dtype=bool), False]))
    gathered = team.collectives.gather(mx.array(first))
    team.collectives.evaluate(gathered)
    firsts = np.array(gathered, dtype=np.int32)
    lowest = int(firsts.min())
    if lowest == sound.size:
        return ""
    ranks = ", ".join(map(str, np.flatnonzero(firsts == lowest)))
    place = _place(lowest, len(parts), model.spec.num_hidden_layers)
    tokens = f"tokens {position} to {position + len(ids) - 1}"
    return f"no numbers: rank {ranks}, {place}, at {tokens}; {_NEXT}"


def _place(sums: int, of: int, layers: int) -> str:
    """Where a rank is before its next sum, of so many in so many layers."""
    if sums == of:
        return "head"
    layer, place = divmod(sums, of // layers)
    return f"layer {layer}, {'experts' if place >= of // layers // 2 else 'attention'}"
