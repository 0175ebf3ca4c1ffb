"""Joining a real ring, its collectives, and what happens when ranks do not fit together."""

import signal
import socket
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from dsv4_tp.coordinator.members import Fault, Rank
from dsv4_tp.coordinator.stalls import culprit
from dsv4_tp.core import Loss, RankReport
from dsv4_tp.engine import check_addresses
from dsv4_tp.errors import PreflightError
from tests.engine.ring import free_addresses, run_processes, run_ranks

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("size", [2, 3])
def test_collectives(tmp_path, size):
    run_ranks("agree", size, tmp_path)
    for rank in range(size):
        got = np.load(tmp_path / f"{rank}.npz")
        total = size * (size - 1) / 2
        np.testing.assert_array_equal(got["sum"], [1.5 * total, 2.0 * size])
        np.testing.assert_array_equal(got["gathered"], [[[r, 7]] for r in range(size)])
        columns = [r for r in range(size) for _ in range(r)]
        np.testing.assert_array_equal(got["columns"], [columns, columns])
        assert got["agreed"] == 10 - (size - 1)
        np.testing.assert_array_equal(got["together"], 2**31 + np.arange(size))
        np.testing.assert_array_equal(got["chain"], size * np.arange(20.0))
        # The canary's facts, sums and their digests; a sum, gathers of a pair and of the widest
        # columns, a number, the numbers put together, the chain.
        payload = 256 + 4 * 256 + 32 + 4 * 65 * 1024 + 32 + 8 + 8 + 8 * (size - 1) + 4 + 20 * 4
        assert got["traffic"].tolist() == [30, payload + size * 4]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_the_sum_of_a_row_does_not_depend_on_those_beside_it(tmp_path, size):
    run_ranks("add", size, tmp_path)
    ranks = [np.load(tmp_path / f"{rank}.npz") for rank in range(size)]
    exact = sum(got["noise"].astype(np.float64) for got in ranks)
    for got in ranks:
        np.testing.assert_array_equal(got["together"], got["alone"])
        np.testing.assert_array_equal(got["together"], ranks[0]["together"])
        assert np.abs(got["together"] - exact).max() < 1e-3


def test_a_rank_whose_neighbour_is_gone_says_so(tmp_path):
    run_ranks("bereft", 2, tmp_path)
    assert (tmp_path / "0.txt").read_text().startswith("another rank is gone, or the way to it: [")


def test_a_rank_that_does_not_end_a_step_it_has_begun_can_be_told_from_those_it_keeps(tmp_path):
    run_ranks("half_built", 2, tmp_path)
    kept, keeper = ((tmp_path / f"{rank}.txt").read_text().split() for rank in (0, 1))
    reports = {
        rank: RankReport(rank, "decode", waits=int(waits), calls=int(calls))
        for rank, (waits, calls) in enumerate((kept, keeper))
    }
    assert kept[0] == keeper[0] == "1"
    ranks = {rank: Rank(f"h{rank}", report) for rank, report in reports.items()}
    stalls = [Fault(Loss.STALLED, "rank 0 on h0", "no progress", rank=0)]
    assert culprit(stalls, ranks).rank == 1
    for rank in (0, 1):
        assert (tmp_path / f"{rank}-done.txt").read_text() == "2 42 8.0"


@pytest.mark.parametrize(
    ("addresses", "rank", "words"),
    [
        (["127.0.0.1:5000", "127.0.0.1:5001"], 2, "rank 2 is not among 2"),
        (["127.0.0.1:5000", "127.0.0.1:5000"], 0, "listed twice"),
        (["localhost:5000", "127.0.0.1:5001"], 0, "IPv4"),
        (["[::1]:5000", "127.0.0.1:5001"], 0, "IPv4"),
        (["127.0.0.1", "127.0.0.1:5001"], 0, "IPv4"),
        (["127.0.0.1:0", "127.0.0.1:5001"], 0, "'0' is not a port"),
        (["127.0.0.1:x", "127.0.0.1:5001"], 0, "'x' is not a port"),
        (["127.0.0.1:70000", "127.0.0.1:5001"], 0, "'70000' is not a port"),
    ],
)
def test_bad_addresses_never_reach_mlx(addresses, rank, words):
    with pytest.raises(PreflightError, match=words):
        check_addresses(addresses, rank=rank)


def test_ranks_that_would_run_different_things_refuse(tmp_path):
    addresses = free_addresses(3)
    facts = [{"version": "1", "dtype": dtype} for dtype in ("float32", "float32", "bfloat16")]
    ranks = [("nothing", rank, addresses, {"facts": facts[rank]}) for rank in range(3)]
    for rank, done in enumerate(run_processes(ranks, tmp_path, 60)):
        assert done.code == 1
        assert "PreflightError: the ranks do not agree on the dtype: ranks [2]" in done.stderr
        assert f"rank {rank} has {facts[rank]['dtype']}" in done.stderr


def test_a_stranger_in_the_place_of_a_rank_is_found_out(tmp_path):
    ours, its = free_addresses(2)
    with socket.create_server(("127.0.0.1", int(its.split(":")[1]))) as server:
        stranger = threading.Thread(target=pretend, args=(server, ours))
        stranger.start()
        (done,) = run_processes([("nothing", 0, [ours, its], {"deadline_s": 20})], tmp_path, 30)
        stranger.join(30)
    assert "RankFailure: what answers as ranks [1] is no rank of this launch" in done.stderr


def pretend(server, address):
    """Connect like a neighbour in the ring, and talk."""
    server.settimeout(20)
    host, _, port = address.rpartition(":")
    for _ in range(200):
        with suppress(OSError), socket.create_connection((host, int(port))) as line:
            accepted, _ = server.accept()
            with accepted:
                line.sendall(b"hello" * 10000)
                accepted.sendall(b"hello" * 10000)
                line.recv(1)
                return
        time.sleep(0.1)


def test_a_rank_whose_peer_never_comes_is_ended_by_the_deadline(tmp_path):
    ranks = [("nothing", 0, free_addresses(2), {"deadline_s": 2})]
    (done,) = run_processes(ranks, tmp_path, 30)
    assert done.code == -signal.SIGALRM


def test_an_address_in_use_is_refused(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ranks = [("nothing", 0, [address, *free_addresses(1)], {})]
        (done,) = run_processes(ranks, tmp_path, 30)
    assert f"RankFailure: rank 0 cannot use {address}" in done.stderr
