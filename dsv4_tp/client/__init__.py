"""What a program needs to use a running cluster. Knows the wire, and nothing of how it runs."""

from dsv4_tp.client.client import Client
from dsv4_tp.client.find import find_cluster
from dsv4_tp.client.types import (
    Ask,
    ClusterStatus,
    Finish,
    HostStatus,
    Logprob,
    Piece,
    RankStatus,
    Stats,
    Totals,
)

__all__ = [
    "Ask",
    "Client",
    "ClusterStatus",
    "Finish",
    "HostStatus",
    "Logprob",
    "Piece",
    "RankStatus",
    "Stats",
    "Totals",
    "find_cluster",
]
