"""The sharding rules: which piece of each tensor a rank holds, as one total table."""

from dsv4_tp.rules.cuts import Cut, cut_shape, cuts
from dsv4_tp.rules.heads import HeadRun, attention_of, head_runs, touched_groups
from dsv4_tp.rules.memory import (
    FP4_BLOCK,
    REWIND,
    RUN_BYTES,
    TURNS,
    capacity,
    fp8_block,
    index_row_bytes,
    not_trained,
    reach,
    row_bytes,
    run_length,
)
from dsv4_tp.rules.table import RULES, Rule, Split, rule_of

__all__ = [
    "FP4_BLOCK",
    "REWIND",
    "RULES",
    "RUN_BYTES",
    "TURNS",
    "Cut",
    "HeadRun",
    "Rule",
    "Split",
    "attention_of",
    "capacity",
    "cut_shape",
    "cuts",
    "fp8_block",
    "head_runs",
    "index_row_bytes",
    "not_trained",
    "reach",
    "row_bytes",
    "rule_of",
    "run_length",
    "touched_groups",
]
