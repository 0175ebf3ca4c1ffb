"""Workers as their agent sees them: a stream, a page, a process."""

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from dsv4_tp.core import Drain, DType, ExpertSplit, FinishEvent, TokenEvent
from dsv4_tp.parallel import load_rank
from dsv4_tp.rpc.convert import part_to_proto
from dsv4_tp.v1.worker_pb2 import StartRank
from tests.engine.drive import log, request
from tests.engine.jobs import parts_of
from tests.engine.ring import free_addresses
from tests.model.golden import ROOT, greedy
from tests.worker.agent import Rank, worker_argv

pytestmark = pytest.mark.ranks

MODEL = ROOT / "public" / "a6_odd_scalars"
PROMPT = (5, 17, 3, 60, 44, 8, 9)


@pytest.fixture
def start_ranks(tmp_path):
    """Starts workers; whatever is left of them ends with the test."""
    with ExitStack() as stack:

        def started(starts: list[StartRank | None]) -> list[Rank]:
            ranks = [Rank(tmp_path / str(i), start) for i, start in enumerate(starts)]
            for rank in ranks:
                stack.callback(rank.close)
            return ranks

        yield started


def starts(size: int, **changes: object) -> list[StartRank]:
    parts = [part_to_proto(p) for p in parts_of(MODEL, [1] * size, ExpertSplit.WIDTH)]
    fields = {
        "epoch": 1,
        "model_path": str(MODEL),
        "parts": parts,
        "dtype": "float32",
        "ring": free_addresses(size) if size > 1 else [],
        "join_timeout_s": 30,
        "prefill_chunk": 4,
    }
    return [StartRank(rank=rank, **fields | changes) for rank in range(size)]


def is_finish(event: object) -> bool:
    return isinstance(event, FinishEvent)


def eventually(condition, patience_s: float = 20) -> bool:
    end = time.monotonic() + patience_s
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def test_two_ranks_answer_and_leave(start_ranks):
    ranks = start_ranks(starts(2))
    submit, drain = log(request("a", PROMPT, 5), Drain())
    for rank in ranks:
        rank.hear("joined")
        ready = rank.hear("ready").ready
        assert ready.weight_bytes > 0
        assert ready.bytes_read > 0
    for rank in ranks:
        rank.tell(submit)
    lead, other = (rank.events(is_finish) for rank in ranks)
    model = load_rank(MODEL, None, dtype=DType.FLOAT32).model
    expected = greedy(model, list(PROMPT), 5)
    assert lead[:-1] == [TokenEvent("a", i, token) for i, token in enumerate(expected)]
    assert len(other) == 1
    assert lead[-1].collectives == 4 * (2 * 4 + 1)
    assert (lead[-1].generated_tokens, lead[-1].decode_steps) == (5, 4)
    for rank in ranks:
        assert eventually(lambda rank=rank: rank.report().phase == "ready")
        rank.tell(drain)
    for rank in ranks:
        assert rank.rest() == []
        assert rank.exit_code() == 0
        report = rank.report()
        assert (report.phase, report.pid) == ("leaving", rank.process.pid)
        assert (report.prefill_tokens, report.decode_steps) == (len(PROMPT), 4)
        assert report.bytes_loaded == report.bytes_total > 0
        assert report.peak_bytes >= report.active_bytes > 0
    steps, nothing = (rank.steps for rank in ranks)
    assert nothing == []
    assert sum(s.work.tokens for s in steps if s.phase == "prefill") == len(PROMPT)
    decoded = [step.work for step in steps if step.phase == "decode"]
    assert len(decoded) == 4
    assert sum(work.collectives for work in decoded) == lead[-1].collectives
    assert sum(work.wire_bytes for work in decoded) == lead[-1].wire_bytes


def test_a_context_that_was_asked_for_bounds_the_requests(start_ranks):
    (rank,) = start_ranks(starts(1, context=len(PROMPT)))
    rank.hear("joined")
    rank.hear("ready")
    for command in log(request("a", PROMPT, 5), Drain()):
        rank.tell(command)
    (refused,) = rank.events(is_finish)
    assert f"and the context is {len(PROMPT)}" in refused.error


def test_a_model_that_is_not_there_is_refused(start_ranks):
    (rank,) = start_ranks(starts(1, model_path="/nowhere"))
    assert "/nowhere" in rank.hear("refused").refused.message
    assert rank.exit_code() == 2
    assert "Traceback" not in rank.stderr()


@pytest.mark.skipif(mx.metal.is_available(), reason="there is Metal here")
def test_kernels_of_metal_are_refused_where_there_is_none(start_ranks):
    (rank,) = start_ranks(starts(1, kernels="metal"))
    refused = rank.hear("refused").refused.message
    assert refused.startswith("kernels: metal: ")
    assert refused.endswith("; use `kernels: plain`")
    assert rank.exit_code() == 2


@pytest.mark.parametrize(
    ("fact", "change"),
    [("prefill chunk", {"prefill_chunk": 5}), ("cache rows", {"cache_rows": "trained"})],
)
def test_ranks_that_differ_are_refused(start_ranks, fact: str, change: dict[str, object]):
    one, other = starts(2)
    other.MergeFrom(StartRank(**change))
    for rank in start_ranks([one, other]):
        assert fact in rank.hear("refused").refused.message
        assert rank.exit_code() == 2


def test_a_gap_in_the_log_ends_the_rank(start_ranks):
    (rank,) = start_ranks(starts(1))
    rank.hear("joined")
    rank.hear("ready")
    rank.tell(log(Drain(), Drain())[1])
    assert rank.exit_code() == 5
    assert "gap" in rank.stderr()


def test_a_rank_ends_with_its_agents_stream(start_ranks):
    (rank,) = start_ranks(starts(1))
    rank.hear("joined")
    rank.hear("ready")
    rank.channel.close()
    assert rank.exit_code() == 1


def test_a_rank_whose_peer_never_comes_is_ended(start_ranks):
    rank, _ = start_ranks([starts(2, join_timeout_s=1)[0], None])
    assert rank.exit_code() == -signal.SIGALRM
    assert rank.report().phase == "joining"


def test_a_rank_prepares_and_meets_nobody_before_it_is_told_to(start_ranks, tmp_path):
    with ExitStack() as stack:
        rank = Rank(tmp_path / "alone", starts(2, join_timeout_s=1)[0], joins=False)
        stack.callback(rank.close)
        assert eventually(lambda: rank.report().phase == "prepared")
        time.sleep(1.5)  # more than it would have to join
        assert rank.process.poll() is None
        assert rank.report().phase == "prepared"
        assert rank.report().beats > 0, "its agent takes it for stuck"


def test_sigterm_ends_a_rank_that_hangs(start_ranks):
    rank, _ = start_ranks([starts(2)[0], None])
    assert eventually(lambda: rank.report().phase == "joining")
    rank.process.terminate()
    assert rank.exit_code() == -signal.SIGTERM


@pytest.mark.skipif(sys.platform != "linux", reason="the guard of the agent does this elsewhere")
def test_a_worker_dies_with_its_parent(tmp_path: Path):
    argv = worker_argv(tmp_path / "socket", tmp_path / "progress")
    code = "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", code, *argv])
    assert eventually((tmp_path / "socket").exists)
    (worker,) = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait(timeout=10)
    assert eventually(lambda: not worker.is_running() or worker.status() == "zombie", 10)
