"""What a program needs to use a running cluster. Knows the wire, and nothing of how it runs."""

from dsv4_tp.asks import Answer, Ask, Finish, Logprob, Piece, Stats, ask_of, whole
from dsv4_tp.client.blocking import Client
from dsv4_tp.client.client import AsyncClient
from dsv4_tp.client.find import find_cluster
from dsv4_tp.client.types import ClusterStatus, HostStatus, RankStatus, Totals

__all__ = [
    "Answer",
    "Ask",
    "AsyncClient",
    "Client",
    "ClusterStatus",
    "Finish",
    "HostStatus",
    "Logprob",
    "Piece",
    "RankStatus",
    "Stats",
    "Totals",
    "ask_of",
    "find_cluster",
    "whole",
]
