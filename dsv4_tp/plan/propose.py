"""Integer weights for ranks of unequal memory and speed.

Shares are as the ranks' speeds, but no rank gets more than its memory takes; what is over goes to
the others. That is worked out with bytes that grow in a straight line with the share; then it is
rounded to small integers, and the real bytes of each candidate decide.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import gcd

from dsv4_tp.plan.partition import apportion

# Finest proportions: the experts of Flash have 64 blocks of channels.
_UNITS = 64
_SIMPLE_UNITS = 16
# A split with smaller numbers is taken if its slowest rank has no more to do than this.
_SLACK = 1.02

Needs = Callable[[Sequence[int]], Sequence[int] | None]


def propose(
    memory: Sequence[int], needs: Needs, speeds: Sequence[float] | None = None
) -> tuple[int, ...] | None:
    """Weights with which every rank fits into its `memory`, in bytes; None if none were found.

    Args:
        memory: bytes by rank.
        needs: the bytes by rank that a split with these weights takes; None if it is impossible.
        speeds: by rank, to any scale, such as memory bandwidths; None: as `memory`.
    """
    pace = speeds or memory
    for candidates in _rounds(memory, needs, pace):
        if found := _fitting(candidates, memory, needs, pace):
            fastest = min(found)[0]
            return min((sum(w), time, w) for time, w in found if time <= fastest * _SLACK)[2]
    return None


def _rounds(
    memory: Sequence[int], needs: Needs, pace: Sequence[float]
) -> Iterator[Iterator[tuple[int, ...]]]:
    """Splits to look at, those in small numbers first: they are easy to read and to change."""
    count = len(memory)
    if (shares := _shares(memory, needs, pace)) is not None:
        simple = max(_SIMPLE_UNITS, 4 * count)
        yield _candidates(shares, range(count, simple + 1))
        yield _candidates(shares, range(simple + 1, _UNITS + 1))
    if count == 2:
        # The line may mislead where a model is small; of two ranks all splits can be looked at.
        yield (_reduced((units, _UNITS - units)) for units in range(1, _UNITS))


def water_fill(room: Sequence[float], speeds: Sequence[float]) -> tuple[float, ...] | None:
    """Shares of 1 in proportion to `speeds`, each at most its `room`; None if that is too little.

    Who is full gives what is over to the others, again in proportion.
    """
    if sum(room) < 1:
        return None
    full: dict[int, float] = {}
    while True:
        rest = 1 - sum(full.values())
        others = sum(speed for rank, speed in enumerate(speeds) if rank not in full)
        shares = [full.get(r, rest * speed / (others or 1)) for r, speed in enumerate(speeds)]
        over = [
            rank for rank, share in enumerate(shares) if rank not in full and share > room[rank]
        ]
        if not over:
            return tuple(shares)
        full |= {rank: room[rank] for rank in over}


def _shares(memory: Sequence[int], needs: Needs, pace: Sequence[float]) -> tuple[float, ...] | None:
    """What of the model each rank should hold, all together 1."""
    count = len(memory)
    whole = needs([1])
    equal = needs([1] * max(count, 2))
    if whole is None or equal is None:
        return None
    mean = sum(equal) / len(equal)
    divided = max(1.0, (whole[0] - mean) / (1 - 1 / len(equal)))
    on_each = whole[0] - divided
    room = [max(0.0, (size - on_each) / divided) for size in memory]
    # The line is an estimate; where it is a little too low, the real bytes shall decide.
    total = sum(room)
    if 1 / _SLACK < total < 1:
        room = [share / total for share in room]
    return water_fill(room, pace)


def _candidates(shares: Sequence[float], units: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """The shares in so many units, each split once, in lowest terms."""
    rounded = (_rounded(shares, count) for count in units)
    return iter(dict.fromkeys(_reduced(weights) for weights in rounded if min(weights) > 0))


def _fitting(
    candidates: Iterable[tuple[int, ...]],
    memory: Sequence[int],
    needs: Needs,
    pace: Sequence[float],
) -> list[tuple[float, tuple[int, ...]]]:
    """Those that fit, with how long their slowest rank takes."""
    taken = ((needs(weights), weights) for weights in candidates)
    return [
        (max(need / speed for need, speed in zip(each, pace, strict=True)), weights)
        for each, weights in taken
        if each is not None and all(map(int.__le__, each, memory))
    ]


def _rounded(shares: Sequence[float], units: int) -> tuple[int, ...]:
    fine = [round(share * (1 << 20)) for share in shares]
    return tuple(len(span) for span in apportion(units, fine))


def _reduced(weights: tuple[int, ...]) -> tuple[int, ...]:
    common = gcd(*weights)
    return tuple(weight // common for weight in weights)
