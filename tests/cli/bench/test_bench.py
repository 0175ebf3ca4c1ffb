"""What `bench` makes of the times at which tokens came, and of what a cluster is; no cluster."""

import asyncio
import json
import random

import pytest

from dsv4_tp import demo
from dsv4_tp.cli.bench.bounds import Bound, bound, speeds_of
from dsv4_tp.cli.bench.figures import Spread, Timed, Waits, decode_rate, figures, percentile
from dsv4_tp.cli.bench.launched import Launched, read_launched
from dsv4_tp.cli.bench.measure import Meter
from dsv4_tp.cli.bench.run import bench_table
from dsv4_tp.cli.bench.sweep import Cell, Sweep, prompt_ids, sweep_of
from dsv4_tp.client import HostStatus, RankStatus
from dsv4_tp.core import CacheRows, RankReport
from dsv4_tp.errors import BusyError, ConfigError, Dsv4Error
from dsv4_tp.modelspec import read_spec
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2
from tests.client.test_client import Scripted, with_client

# Two prompts of 10 tokens, one behind the other; then both texts go on together.
EARLY = Timed(10, (1.0, 1.5, 2.0, 2.5, 3.0))
LATE = Timed(10, (2.0, 2.5, 3.0, 3.5))


def test_rates_are_of_what_all_do_at_the_same_time():
    found = figures(2, 10, [[EARLY, LATE], [EARLY, LATE]])
    assert found.prefill_tokens_per_s == Spread(10.0, 10.0, 10.0)  # 20 tokens in 2 s
    assert found.decode_tokens_per_s == Spread(4.0, 4.0, 4.0)  # 2 + 2 in the second from 2 to 3
    assert found.first_token_s == Waits(1.0, 2.0, 2.0, 2.0)
    assert (found.requests, found.fed_tokens, found.generated_tokens) == (4, 40, 18)


def test_rounds_are_told_by_their_median():
    rounds = [[Timed(10, (at_s, 2 * at_s))] for at_s in (1.0, 5.0, 2.0)]
    assert figures(1, 10, rounds).prefill_tokens_per_s == Spread(5.0, 2.0, 10.0)
    assert figures(1, 10, rounds).decode_tokens_per_s == Spread(0.5, 0.2, 1.0)


def test_what_was_known_of_a_prompt_was_not_fed():
    assert figures(1, 10, [[Timed(10, (2.0, 3.0), 4)]]).prefill_tokens_per_s.median == 3.0


def test_texts_that_never_decode_together_have_no_rate():
    assert decode_rate([Timed(1, (1.0, 2.0)), Timed(1, (2.0, 3.0))]) is None
    assert decode_rate([Timed(1, (1.0,))]) is None
    assert figures(1, 1, [[Timed(1, (1.0,))]]).decode_tokens_per_s is None


def test_percentiles_are_values_that_were_seen():
    values = [float(n) for n in range(100, 0, -1)]
    assert [percentile(values, p) for p in (50, 95, 99, 100, 0)] == [50, 95, 99, 100, 1]
    assert percentile([7.0], 50) == 7.0
    assert percentile([1.0, 2.0], 95) == 2.0


def test_every_cell_has_its_rounds_there_and_back():
    sweep = Sweep((Cell(1, 8), Cell(2, 8)), tokens=4, rounds=3)
    assert [cell.batch for cell in sweep.order()] == [1, 2, 2, 1, 1, 2]


def sweep(batches=None, prompts=None, tokens=64, batch=4, context=512):
    how = {"rounds": 1, "batch": batch, "context": context}
    return sweep_of(batches, prompts, tokens=tokens, **how).cells


def test_what_is_not_asked_for_is_what_the_cluster_can():
    assert sweep() == (Cell(1, 128), Cell(2, 128), Cell(4, 128))
    assert sweep(batch=3, context=100) == (Cell(1, 36), Cell(2, 36))
    assert sweep("2,4,2", "8") == (Cell(2, 8), Cell(4, 8))


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"batches": "1,x"}, "--batches '1,x': expected whole numbers above 0, such as 1,4"),
        ({"prompts": "0"}, "--prompts '0': expected whole numbers"),
        ({"batches": "8"}, r"--batches 8: 8, and the cluster has 4 requests at a time \(batch\)"),
        ({"prompts": "449"}, "--prompts 449: 449, and the cluster has 448 tokens beside 64 of"),
        ({"tokens": 512}, "--tokens 512: the cluster's context is 512; take fewer"),
    ],
)
def test_what_the_cluster_cannot_is_refused(how, says):
    with pytest.raises(ConfigError, match=says):
        sweep(**how)


def test_no_prompt_begins_like_another():
    chance = random.Random(1)
    one, other = (prompt_ids(chance, 500, 100) for _ in range(2))
    assert one[:8] != other[:8]
    assert (min(one), max(one), len(one)) == (0, 99, 500)


class Refusing(Scripted):
    """Takes one text at a time."""

    async def Generate(self, request, context):
        if self.asked:
            raise BusyError("1 requests wait already")
        self.asked = request
        await asyncio.sleep(60)
        yield


def measure(service, batch, tokens=4):
    launched = Launched("demo", read_spec(demo.path()), (2,), batch, 512, CacheRows.EXACT, ())
    sweep = Sweep((Cell(batch, 8),), tokens=tokens, rounds=2)
    return with_client(service, lambda client: Meter(client, launched).run(sweep, print))


def test_a_text_that_is_refused_ends_all_with_its_reason():
    with pytest.raises(BusyError, match="1 requests wait already"):
        measure(Refusing(), batch=3)


def finish(**stats):
    finished = pb.Finish(reason=types_pb2.FINISH_REASON_LENGTH, stats=pb.Stats(**stats))
    return pb.GenerateResponse(finish=finished)


def test_what_is_asked_and_what_is_heard():
    told = pb.GenerateResponse(tokens=[7, 8]), pb.GenerateResponse(tokens=[9])
    service = Scripted(*told, finish(prompt_tokens=8, cached_tokens=3))
    ((cell, rounds),) = measure(service, batch=2).items()
    assert cell == Cell(2, 8)
    assert [len(each) for each in rounds] == [2, 2]
    text = rounds[0][0]
    assert (text.prompt_tokens, text.cached_tokens) == (8, 3)
    assert text.tokens_s[0] == text.tokens_s[1] <= text.tokens_s[2]
    asked = service.asked
    assert len(asked.ids.ids) == 8
    assert (asked.temperature, asked.mtp, asked.max_tokens) == (0.0, 0, 4)
    assert dict(asked.logit_bias) == {2: -100.0}


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([finish()], "a text ended without a token"),
        ([pb.GenerateResponse(tokens=[7]), finish(restarts=1)], "the ranks were started again"),
    ],
)
def test_what_would_mislead_is_an_error(answers, says):
    with pytest.raises(Dsv4Error, match=says):
        measure(Scripted(*answers), batch=1)


def host(name, *ranks):
    return HostStatus(
        name, 0.0, tuple(RankStatus(RankReport(r, "ready"), 0, 0, 0.0) for r in ranks)
    )


def test_ranks_of_one_host_share_its_bandwidth():
    assert speeds_of([100.0, 30.0], [host("b", 1), host("a", 0, 2)]) == (15.0, 100.0, 15.0)
    with pytest.raises(ConfigError, match=r"--bandwidth has 1 values for 2 hosts; .* each of b, a"):
        speeds_of([100.0], [host("b", 1), host("a", 0, 2)])


def test_the_slowest_rank_is_the_roof():
    # Rank 1 takes 0.5 s for its bytes: 4 texts make 8 tokens in a second at most.
    assert bound([10, 20], [100.0, 40.0], 4, 6.0) == Bound((10, 20), 8.0, 0.75)
    assert bound([10, 20], [100.0, 40.0], 4, None) == Bound((10, 20), 8.0, None)
    assert bound([10, 20], None, 4, 6.0) == Bound((10, 20), None, None)


def test_the_table():
    found = figures(2, 10, [[EARLY, LATE]])
    never = figures(2, 10, [[Timed(1, (1.0,))]])
    page = bench_table(
        [(found, bound([10**9], [8e9], 2, 4.0)), (never, bound([1], [1.0], 2, None))]
    )
    head, *rows = [line.split() for line in page.splitlines()]
    assert head[-2:] == ["roof/s", "reached"]
    assert rows[0] == [
        *["2", "10", "10.0", "4.0", "1.000", "2.000", "2.000", "1.00", "16.0", "25.0%"]
    ]
    assert " ".join(rows[0]) == "2 10 10.0 4.0 1.000 2.000 2.000 1.00 16.0 25.0%"
    assert rows[1][3] == rows[1][-1] == "-"
    assert "roof/s" not in bench_table([(found, bound([1], None, 2, 4.0))])


def test_what_was_launched_elsewhere_is_not_known(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"launch.json: No such file .*: run it where that was"):
        read_launched("20261121T182616Z-lab")


def test_what_was_launched_here(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    folder = tmp_path / "launches" / "20261121T182616Z-lab"
    folder.mkdir(parents=True)
    config = {"model": {"path": "demo"}, "batch": 4}
    plan = {"context": 512, "cache_rows": "exact"}
    plan["rank_bytes"] = [{"kinds": [["experts", 7], ["head", 5]], "largest_layer": 3, "total": 12}]
    (folder / "launch.json").write_text(json.dumps({"config": config, "plan": plan}))
    found = read_launched("20261121T182616Z-lab")
    assert (found.batch, found.context, found.kinds) == (4, 512, ({"experts": 7, "head": 5},))
    assert all(token < found.spec.vocab_size for token in found.last_ids)
