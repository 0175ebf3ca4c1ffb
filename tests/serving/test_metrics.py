"""What Prometheus is told, read by its own parser and held against what is known."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text
from starlette.testclient import TestClient

from dsv4_tp import __version__, core
from dsv4_tp.config import Http, Restart
from dsv4_tp.config.cluster import MetricsAlias
from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.cluster import CAUSES, ClusterState, Phase, first_state
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.members import Host
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.coordinator.witness import Witness
from dsv4_tp.serving.app import App
from tests.serving.test_app import ABC, SAY, StandIn

ROOT = Path(__file__).parents[2]
OPEN = {
    "accept": "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8,text/plain;q=0.5"
}
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def served() -> Requests:
    """Two texts that have ended, one that runs, one that waits; times have exact sums."""
    state = Requests(batch=2, queue=4)
    for name in ("a", "b", "c", "d"):
        request = core.Request(name, (1,) * 8, 4, core.Sampling())
        state, _ = requests.asked(state, events.Asked(request), 1.0)
    for name, index, at_s in (("a", 0, 1.5), ("a", 1, 1.75), ("b", 0, 3.0), ("c", 0, 3.0)):
        state, _ = requests.said(state, core.TokenEvent(name, index, 5), at_s)
    for name, reason in (("a", core.FinishReason.STOP), ("b", core.FinishReason.LENGTH)):
        costs = {"cached_tokens": 6, "drafted_tokens": 3, "accepted_tokens": 1}
        finish = core.FinishEvent(name, reason, 8, 2, 0.25, 0.5, 0, 0, **costs)
        state, _ = requests.said(state, finish, 4.0)
    work = core.Work(steps=3, rows=4, tokens=5, collectives=6, wire_bytes=7, time_s=0.5)
    state, _ = requests.said(state, core.StepEvent("decode", work, 1), 4.0)
    return state


def cluster() -> ClusterState:
    times = {"beat_s": 1, "prepare_s": 9, "fence_s": 9, "drain_s": 9}
    state = first_state({0: "a", 1: "b"}, served(), Restart(), **times, now_s=0)
    report = core.RankReport(1, "decode", decode_steps=7, prefill_tokens=8, active_bytes=9)
    second = replace(state.ranks[1], report=replace(report, peak_bytes=10), weight_bytes=11)
    links = (core.Link("a", 0.5, silent=True), core.Link("c"))
    hosts = {"a": Host(1.0, spoke=True), "b": Host(2.0, spoke=True, lost_s=3.0, links=links)}
    ranks = {**state.ranks, 1: second}
    return replace(state, phase=Phase.READY, epoch=3, ranks=ranks, hosts=hosts)


class Watched(StandIn):
    def __init__(self, tmp_path: Path) -> None:
        super().__init__(*ABC)
        self.state = cluster()
        self.witness = Witness(tmp_path)
        self.witness.restarts.update(killed=2)


@pytest.fixture
def asking(tmp_path: Path) -> TestClient:
    return client(Watched(tmp_path), MetricsAlias.VLLM)


def client(it: Watched, alias: MetricsAlias | None) -> TestClient:
    app = App(cast(Coordinator, it), cast(Texts, it)).asgi(Http(metrics_alias=alias))
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def scraped(asking: TestClient, headers: dict[str, str] | None = None) -> Samples:
    answer = asking.get("/metrics", headers=headers or {})
    assert answer.status_code == 200
    read = read_open_metrics if "openmetrics" in answer.headers["content-type"] else read_text
    samples = [each for family in read(answer.text) for each in family.samples]
    found = {(each.name, tuple(sorted(each.labels.items()))): each.value for each in samples}
    assert len(found) == len(samples), "no sample is told twice"
    return found


def number(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


def test_numbers_are_those_of_the_state(asking: TestClient):
    found = scraped(asking)
    told = {
        **{"ready": 1, "epoch": 3, "requests_running": 1, "requests_waiting": 1},
        **{"requests_running_limit": 2, "requests_waiting_limit": 4, "replayed_requests_total": 0},
        **{"prompt_tokens_total": 16, "cached_prompt_tokens_total": 12},
        **{"generated_tokens_total": 4, "drafted_tokens_total": 6, "accepted_tokens_total": 2},
    }
    assert {name: number(found, f"dsv4tp_{name}") for name in told} == told
    assert number(found, "dsv4tp_build_info", version=__version__, model="demo") == 1
    for phase in Phase:
        assert number(found, "dsv4tp_phase", phase=phase.value) == (phase is Phase.READY)
    for cause in CAUSES:
        assert number(found, "dsv4tp_restarts_total", cause=cause) == 2 * (cause == "killed")
    for reason in ("stop", "length", "cancelled", "failed", "timeout", "refused", "lost"):
        ended = number(found, "dsv4tp_requests_finished_total", reason=reason)
        assert ended == (reason in ("stop", "length"))
    steps = ("steps", "step_rows", "step_tokens", "collectives", "wire_bytes", "step_seconds")
    for phase, numbers in (("decode", [3, 4, 5, 6, 7, 0.5]), ("prefill", [0] * 6)):
        assert [number(found, f"dsv4tp_{s}_total", phase=phase) for s in steps] == numbers


@pytest.mark.parametrize(
    ("name", "count", "total_s"),
    [
        ("time_to_first_token", 2, 0.5 + 2.0),
        ("inter_token", 1, 0.25),
        ("request_queue", 2, 2 * 2.25),
        ("request_prefill", 2, 0.5),
        ("request_decode", 2, 1.0),
        ("request", 2, 6.0),
    ],
)
def test_times(asking: TestClient, name: str, count: int, total_s: float):
    found, name = scraped(asking), f"dsv4tp_{name}_seconds"
    assert (number(found, f"{name}_count"), number(found, f"{name}_sum")) == (count, total_s)
    buckets = {labels: value for (each, labels), value in found.items() if each == f"{name}_bucket"}
    bounds = [float(labels[0][1]) for labels in buckets]
    assert bounds == sorted(bounds)
    assert [*buckets.values()] == sorted(buckets.values())
    assert buckets[("le", "+Inf"),] == count


def test_ranks_hosts_and_links(asking: TestClient):
    found = scraped(asking)
    names = ("steps_total", "prefill_tokens_total", "memory_bytes", "memory_peak_bytes")
    for rank, host, numbers in (("0", "a", [0] * 5), ("1", "b", [7, 8, 9, 10, 11])):
        labels = {"rank": rank, "host": host}
        told = [number(found, f"dsv4tp_rank_{n}", **labels) for n in (*names, "weight_bytes")]
        assert told == numbers
        assert number(found, "dsv4tp_rank_progress_age_seconds", **labels) == 0
    assert [number(found, "dsv4tp_host_up", host=host) for host in "ab"] == [1, 0]
    ages = [number(found, "dsv4tp_host_beat_age_seconds", host=host) for host in "ab"]
    assert ages[0] > ages[1] > 0
    links = {labels: value for (name, labels), value in found.items() if name == "dsv4tp_link_up"}
    assert links == {(("host", "b"), ("peer", "a")): 0}  # the other one is not watched


def test_both_formats_say_the_same(asking: TestClient):
    plain, opened = scraped(asking), scraped(asking, OPEN)
    moving = {"dsv4tp_host_beat_age_seconds", "dsv4tp_http_answers_total"}
    assert {key for key in plain if key[0] not in moving} <= {*opened}
    assert all(plain[key] == opened[key] for key in plain if key[0] not in moving)
    version = asking.get("/metrics").headers["content-type"]
    assert version == "text/plain; version=0.0.4; charset=utf-8"


VLLM = {
    "num_requests_running": "requests_running",
    "num_requests_waiting": "requests_waiting",
    "prompt_tokens_total": "prompt_tokens_total",
    "generation_tokens_total": "generated_tokens_total",
    "prefix_cache_hits_total": "cached_prompt_tokens_total",
    "time_to_first_token_seconds_sum": "time_to_first_token_seconds_sum",
    "inter_token_latency_seconds_sum": "inter_token_seconds_sum",
    "e2e_request_latency_seconds_count": "request_seconds_count",
    "request_queue_time_seconds_sum": "request_queue_seconds_sum",
    "request_prefill_time_seconds_sum": "request_prefill_seconds_sum",
    "request_decode_time_seconds_sum": "request_decode_seconds_sum",
}


def test_vllms_names_if_they_are_wanted(asking: TestClient, tmp_path: Path):
    found = scraped(asking)
    for theirs, ours in VLLM.items():
        told = number(found, f"vllm:{theirs}", model_name="demo")
        assert told == number(found, f"dsv4tp_{ours}")
    for reason, count in (("stop", 1), ("length", 1), ("abort", 0)):
        labels = {"model_name": "demo", "finished_reason": reason}
        assert number(found, "vllm:request_success_total", **labels) == count
    alone = scraped(client(Watched(tmp_path), None))
    assert {key[0] for key in found} - {key[0] for key in alone} == {
        key[0] for key in found if key[0].startswith("vllm:")
    }


def test_clients_make_no_new_series(asking: TestClient):
    """But one for each status, of which there are few; and those are counted."""
    before = scraped(asking)
    for name in ("x", "y", "z"):
        asking.get(f"/{name}", headers={"x-request-id": name, "user-agent": name})
        asking.post("/v1/completions", json=SAY | {"model": name})
        asking.post("/v1/completions", json=SAY | {name: name, "user": name})
    after = scraped(asking)
    fresh = {key for key in after if key not in before}
    assert {key[0] for key in fresh} == {"dsv4tp_http_answers_total"}
    assert number(after, "dsv4tp_http_answers_total", status="404") == 6
    assert number(after, "dsv4tp_http_answers_total", status="400") == 3
    assert number(after, "dsv4tp_http_answers_total", status="200") == 1  # the first look


def test_metrics_have_no_line_in_the_log(asking: TestClient, capsys: pytest.CaptureFixture[str]):
    scraped(asking)
    assert capsys.readouterr().err == ""


def named(asking: TestClient) -> dict[str, set[str]]:
    """All there is of ours, and its labels; HTTP answers are counted from the second look on."""
    labels: dict[str, set[str]] = {}
    for name, pairs in (*scraped(asking), *scraped(asking)):
        if name.startswith("dsv4tp_"):
            labels.setdefault(name, {"job"}).update(label for label, _ in pairs)
    return labels


def base(name: str) -> str:
    """A histogram's, of its parts."""
    return re.sub("_(bucket|sum|count)$", "", name)


def test_the_dashboard_shows_what_there_is(asking: TestClient):
    board = json.loads((ROOT / "docs/grafana.json").read_text(encoding="utf-8"))
    labels, shown = named(asking), set[str]()
    for query in (each for panel in board["panels"] for each in panel.get("targets", [])):
        names = re.findall(r"dsv4tp_\w+", query["expr"])
        wanted = re.findall(r"(\w+)=", query["expr"])
        wanted += re.findall(r"\w+", " ".join(re.findall(r"by \((.+?)\)", query["expr"])))
        wanted += re.findall(r"{{(\w+)}}", query["legendFormat"])
        assert [name for name in names if not {*wanted} <= labels[name]] == [], query
        shown |= {base(name) for name in names}
    assert shown == {base(name) for name in labels}


def test_the_page_of_metrics_has_all_of_them(asking: TestClient):
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    theirs = {base(name) for name, _ in scraped(asking) if name.startswith("vllm:")}
    names = {base(name) for name in named(asking)} | theirs
    assert sorted(set(re.findall(r"`((?:dsv4tp_|vllm:)\w+)`", text))) == sorted(names)
    (causes,) = (line for line in text.splitlines() if "dsv4tp_restarts_total" in line)
    assert [cause for cause in CAUSES if cause not in causes] == []
