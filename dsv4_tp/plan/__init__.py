"""Planning: integer shares for unequal ranks, and the bytes each will hold."""

from dsv4_tp.plan.cache import cache_bytes, most_cache_bytes
from dsv4_tp.plan.memory import RankBytes, rank_bytes
from dsv4_tp.plan.plan import MOST_RANKS, Plan, make_plan

__all__ = [
    "MOST_RANKS",
    "Plan",
    "RankBytes",
    "cache_bytes",
    "make_plan",
    "most_cache_bytes",
    "rank_bytes",
]
