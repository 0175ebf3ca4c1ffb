"""The data plane of one rank: the ring, the choice of tokens, scoring and the lockstep loop.

The only home of `mx.distributed`. It knows no gRPC, no file of a checkpoint and no user.
"""

from dsv4_tp.engine.collectives import Collectives, Group, Ledger, Payload, Traffic
from dsv4_tp.engine.division import HALVES_FROM, TokenShares, attention_sum
from dsv4_tp.engine.group import check_addresses, check_backend, join
from dsv4_tp.engine.guided import Guide, GuideFor
from dsv4_tp.engine.loop import Engine
from dsv4_tp.engine.outside import Inbox, Progress, Turns
from dsv4_tp.engine.pace import Pace
from dsv4_tp.engine.refusal import Limits, refusal
from dsv4_tp.engine.scoring import score_rows
from dsv4_tp.engine.team import Team

__all__ = [
    "HALVES_FROM",
    "Collectives",
    "Engine",
    "Group",
    "Guide",
    "GuideFor",
    "Inbox",
    "Ledger",
    "Limits",
    "Pace",
    "Payload",
    "Progress",
    "Team",
    "TokenShares",
    "Traffic",
    "Turns",
    "attention_sum",
    "check_addresses",
    "check_backend",
    "join",
    "refusal",
    "score_rows",
]
