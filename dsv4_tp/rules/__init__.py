"""The sharding rules: which piece of each tensor a rank holds, as one total table."""

from dsv4_tp.rules.cuts import Cut, cut_shape, cuts
from dsv4_tp.rules.heads import HeadRun, head_runs, touched_groups
from dsv4_tp.rules.table import RULES, Rule, Split, rule_of

__all__ = [
    "RULES",
    "Cut",
    "HeadRun",
    "Rule",
    "Split",
    "cut_shape",
    "cuts",
    "head_runs",
    "rule_of",
    "touched_groups",
]
