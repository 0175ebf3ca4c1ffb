"""How many tokens to draft: as many as make the most tokens per second, and none if that is best.

A pure function of numbers that all ranks share: how often drafts were right, by their place, and
how long steps took. So every rank drafts as many. It knows no model and no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dsv4_tp.config import MOST_DRAFTS

_TRIAL, _HOLD = 4, 24  # steps: to learn what a depth costs, and between two thoughts
_REVIEW = 5  # every so many thoughts a neighbour is tried again
_MEMORY = 0.98  # of what was seen of drafts, after a step
_LEARNING = 0.25  # of a newly seen cost
_OUTLIER = 2.0  # a cost counts as at most so many times the known one


@dataclass(frozen=True, slots=True)
class Pace:
    """What drafting has been worth, and how many tokens of each sequence are drafted now."""

    most: int = 0
    steady: bool = False  # always draft as many as may be
    depth: int = 0
    left: int = 0  # steps before this is thought over
    thoughts: int = 0
    taken: tuple[float, ...] = (0.5,) * MOST_DRAFTS  # how many drafts of each place were right
    tried: tuple[float, ...] = (0.6,) * MOST_DRAFTS  # and of how many that mattered
    costs: Mapping[tuple[int, int], float] = field(default_factory=dict[tuple[int, int], float])
    # ^ of a step, in any unit, by its sequences and drafts
    step: tuple[int, int] | None = None  # the last one, if as many are drafted for the next

    def __post_init__(self) -> None:
        assert 0 <= self.most <= MOST_DRAFTS, f"{self.most} drafts; at most {MOST_DRAFTS}"


def seen(pace: Pace, given: Sequence[int], right: Sequence[int]) -> Pace:
    """After a step that was given so many drafts of each sequence, of which so many were right."""
    if not pace.most:
        return pace
    places = range(MOST_DRAFTS)
    # A draft behind a wrong one says nothing.
    tried = [sum(n > at and r >= at for n, r in zip(given, right, strict=True)) for at in places]
    taken = [sum(r > at for r in right) for at in places]
    return replace(
        pace,
        tried=tuple(_MEMORY * old + new for old, new in zip(pace.tried, tried, strict=True)),
        taken=tuple(_MEMORY * old + new for old, new in zip(pace.taken, taken, strict=True)),
        step=(len(given), max(given)),  # shorter rows are filled up
    )


def timed(pace: Pace, cost: float) -> Pace:
    """The last step took so long, with the drafts that it made for the next; 0: not known."""
    if pace.step is None or cost <= 0:
        return pace
    old = pace.costs.get(pace.step, cost)
    new = old + _LEARNING * (min(cost, _OUTLIER * old) - old)
    return replace(pace, costs={**pace.costs, pace.step: new})


def thought_over(pace: Pace, sequences: int, room: int) -> Pace:
    """With the depth for the next step of so many sequences; of each, `room` drafts have room."""
    most = min(pace.most, room)
    if pace.steady or not most:
        return _with_depth(pace, most, left=0)
    if pace.left and pace.depth <= most:
        return _with_depth(pace, pace.depth, left=pace.left - 1)
    best = _best(pace, sequences, most)
    pace = replace(pace, thoughts=pace.thoughts + 1)
    if (next_up := _unknown(pace, sequences, best, most)) is not None:
        return _with_depth(pace, next_up, left=_TRIAL)
    if pace.thoughts % _REVIEW == 0:
        return _with_depth(pace, _neighbour(pace, best, most), left=_TRIAL)
    return _with_depth(pace, best, left=_HOLD)


def tokens_per_step(pace: Pace, depth: int) -> float:
    """How many tokens of a sequence a step makes with so many drafts, by what was seen."""
    made = likely = 1.0
    for taken, tried in zip(pace.taken[:depth], pace.tried, strict=False):
        likely *= taken / tried
        made += likely
    return made


def _with_depth(pace: Pace, depth: int, *, left: int) -> Pace:
    step = pace.step if pace.step is not None and pace.step[1] == depth else None
    return replace(pace, depth=depth, left=left, step=step)


def _best(pace: Pace, sequences: int, most: int) -> int:
    """Of the depths whose cost is known."""
    known = [depth for depth in range(most + 1) if (sequences, depth) in pace.costs]
    rates = {d: tokens_per_step(pace, d) / pace.costs[sequences, d] for d in known}
    return max(known, key=lambda depth: rates[depth], default=0)


def _unknown(pace: Pace, sequences: int, best: int, most: int) -> int | None:
    """The depth to try first: the first two, then what is next to the best."""
    first = [depth for depth in (0, 1, best + 1) if depth <= most]
    return next((depth for depth in first if (sequences, depth) not in pace.costs), None)


def _neighbour(pace: Pace, best: int, most: int) -> int:
    up = pace.thoughts // _REVIEW % 2 == 0
    return min(best + 1, most) if up or best == 0 else best - 1
