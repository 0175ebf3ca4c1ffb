"""Planning: integer shares for unequal ranks, the bytes each will need, and whether they fit."""

from dsv4_tp.plan.cache import cache_bytes, room_bytes
from dsv4_tp.plan.fit import (
    Replan,
    Room,
    fits,
    largest_context,
    misfits,
    proposed_split,
    sized,
    with_modest_context,
)
from dsv4_tp.plan.memory import RankBytes, rank_bytes
from dsv4_tp.plan.plan import MOST_RANKS, Plan, make_plan
from dsv4_tp.plan.propose import propose

__all__ = [
    "MOST_RANKS",
    "Plan",
    "RankBytes",
    "Replan",
    "Room",
    "cache_bytes",
    "fits",
    "largest_context",
    "make_plan",
    "misfits",
    "propose",
    "proposed_split",
    "rank_bytes",
    "room_bytes",
    "sized",
    "with_modest_context",
]
