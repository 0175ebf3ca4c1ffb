"""What a program needs to use a running cluster. Knows the wire, and nothing of how it runs."""

from dsv4_tp.asks import Answer, Ask, Finish, Logprob, Piece, Stats, ask_of, whole
from dsv4_tp.client.blocking import Client
from dsv4_tp.client.client import AsyncClient
from dsv4_tp.client.find import find_cluster, is_running
from dsv4_tp.client.types import (
    ClusterStatus,
    Downfall,
    HostDown,
    HostStatus,
    LogPart,
    RankStatus,
    Totals,
)

__all__ = [
    "Answer",
    "Ask",
    "AsyncClient",
    "Client",
    "ClusterStatus",
    "Downfall",
    "Finish",
    "HostDown",
    "HostStatus",
    "LogPart",
    "Logprob",
    "Piece",
    "RankStatus",
    "Stats",
    "Totals",
    "ask_of",
    "find_cluster",
    "is_running",
    "whole",
]
