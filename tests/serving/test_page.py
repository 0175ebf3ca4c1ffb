"""What the page is sent: files that load nothing from elsewhere, and a cluster as it is."""

import json
import re
from collections.abc import AsyncIterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from openai import AsyncOpenAI
from starlette.testclient import TestClient

from dsv4_tp.asks import Piece
from dsv4_tp.client import RankStatus, Totals
from dsv4_tp.config import Http
from dsv4_tp.coordinator.chronicle import Note
from dsv4_tp.coordinator.cluster import ClusterState, Phase
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.members import Host
from dsv4_tp.coordinator.setup import AgentSetup
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.coordinator.witness import Witness
from dsv4_tp.core import Link, RankReport
from dsv4_tp.serving.app import App
from dsv4_tp.serving.keys import Keys
from dsv4_tp.serving.page.files import PATHS
from dsv4_tp.serving.page.view import RankView, Seen, TotalsView, view
from tests.serving.test_app import ABC, StandIn, by_client, url_of
from tests.serving.test_entrance import HERE, OUTSIDE, SHOWN, read_one

GB = 10**9


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return read_one(tmp_path)


class Pictured(StandIn):
    """A cluster of two hosts between which nothing comes through, and what became of it."""

    def __init__(self, folder: Path, *script: Piece | Exception | float) -> None:
        super().__init__(*script)
        self.state = pictured(self.state)
        self.witness = Witness(folder)
        agents = [AgentSetup(name, "", "", (rank,), "demo") for rank, name in enumerate("ab")]
        about = {"name": "lab", "history": Path("past/now-lab"), "agents": agents}
        known = vars(self.setup) | about | {"planned_bytes": (6 * GB, 6 * GB)}
        self.setup = SimpleNamespace(**known)


def pictured(state: ClusterState) -> ClusterState:
    report = RankReport(0, "decode", decode_steps=7, active_bytes=5 * GB, peak_bytes=8 * GB)
    first = replace(state.ranks[0], report=report, weight_bytes=4 * GB)
    hosts = {
        "a": Host(9.5, spoke=True, links=(Link("b", 4.0, silent=True),)),
        "b": Host(8.0, spoke=True, links=(Link("a", 0.2),)),
    }
    return replace(state, phase=Phase.READY, epoch=2, hosts=hosts, ranks=state.ranks | {0: first})


def asking(folder: Path, keys: Keys | None = None) -> TestClient:
    it = Pictured(folder, *ABC)
    app = App(cast(Coordinator, it), cast(Texts, it)).asgi(OUTSIDE if keys else Http(), keys)
    return TestClient(app, base_url=HERE)


@pytest.mark.parametrize("path", PATHS)
def test_a_file_needs_no_key_and_loads_nothing_from_elsewhere(
    tmp_path: Path, keys: Keys, path: str
):
    answer = asking(tmp_path, keys).get(path)
    assert answer.status_code == 200
    parts = answer.headers["content-security-policy"].split("; ")
    policy = dict(part.split(" ", 1) for part in parts)
    assert policy["default-src"] == "'none'"
    assert set(policy.values()) == {"'none'", "'self'"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    named = re.findall(r"""(?:src|href)="([^"#]+)"|from "([^"]+)"|url\(([^)]+)\)""", answer.text)
    assert {name for names in named for name in names if name} <= set(PATHS)
    # The namespace of an icon is a name, and is not fetched.
    assert "://" not in answer.text.replace("http://www.w3.org/2000/svg", "")


def test_the_files_are_small(tmp_path: Path):
    sizes = {path: asking(tmp_path).get(path).text.count("\n") for path in PATHS}
    assert max(sizes.values()) <= 300, sizes


def test_what_a_model_writes_is_never_markup(tmp_path: Path):
    texts = [asking(tmp_path).get(path).text for path in PATHS]
    words = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function"
    assert not [text for text in texts if re.search(words, text)]
    assert any("textContent" in text for text in texts)


def test_who_has_no_key_learns_nothing_of_the_cluster(tmp_path: Path, keys: Keys):
    client = asking(tmp_path, keys)
    for path in ("/v2/cluster", "/v2/cluster/events"):
        assert client.get(path).status_code == 401
    answer = client.get("/v2/cluster", headers=SHOWN["bearer"])
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")


def test_a_look_has_what_status_has_and_links(tmp_path: Path):
    found = asking(tmp_path).get("/v2/cluster").json()
    assert (found["name"], found["launch"], found["model"]) == ("lab", "now-lab", "demo")
    assert (found["phase"], found["epoch"], found["restarts"]) == ("ready", 2, 1)
    one, other = found["hosts"]
    assert one["links"] == [{"host": "b", "quiet_s": 4.0, "silent": True}]
    (rank,) = one["ranks"]
    assert (rank["planned_bytes"], rank["weight_bytes"]) == (6 * GB, 4 * GB)
    assert rank["report"]["peak_bytes"] == 8 * GB
    assert other["ranks"][0]["report"]["phase"] == "starting"
    assert (found["totals"]["running_limit"], found["totals"]["waiting_limit"]) == (1, 1)


def test_the_same_things_have_the_same_names_as_in_status():
    assert names(RankView) == names(RankStatus)
    assert names(Totals) <= names(TotalsView)


def names(kind: Any) -> set[str]:
    return {field.name for field in fields(kind)}


def test_a_host_that_is_lost_says_why(tmp_path: Path):
    it = Pictured(tmp_path)
    lost = replace(it.state.hosts["b"], lost_s=8.5, cause="no sign of it for 4 s")
    state = replace(it.state, hosts={**it.state.hosts, "b": lost})
    seen = Seen(10.0, {0: 0.0, 1: 3.0}, (0.1, 0.9))
    shown = view(cast(Any, it.setup), state, seen)
    assert [host.up for host in shown.hosts] == [True, False]
    assert shown.hosts[1].cause == "no sign of it for 4 s"
    assert [host.beat_age_s for host in shown.hosts] == [0.5, 2.0]
    assert [rank.idle_s for host in shown.hosts for rank in host.ranks] == [0.0, 3.0]
    assert (shown.totals.first_token_p50_s, shown.totals.first_token_p95_s) == (0.1, 0.9)
    json.dumps(asdict(shown))


def test_the_stream_begins_with_all_and_goes_on_with_what_happens(tmp_path: Path):
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        witness = cast(Pictured, it).witness
        for number in range(60):
            witness.tell(Note("rank-joined", f"word {number}"), epoch=1)
        async with client._client.stream("GET", url_of(client, "/v2/cluster/events")) as stream:
            told = (json.loads(line[6:]) async for line in stream.aiter_lines() if line)
            assert (await anext(told))["cluster"]["phase"] == "ready"
            past = await anext(told)
            assert (past["missed"], len(past["events"])) == (0, 50)
            assert past["events"][-1]["text"] == "word 59"
            assert "cluster" in await anext(told)
            witness.tell(Note("ready", "requests are taken"), epoch=2)
            news = await events(told)
            assert (news[0]["kind"], news[0]["seq"], news[0]["epoch"]) == ("ready", 61, 2)
            it.state = replace(it.state, phase=Phase.RECOVERING)
            while (await anext(told)).get("cluster", {}).get("phase") != "recovering":
                pass  # without an event, too

    by_client(lambda: Pictured(tmp_path), act)


async def events(told: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    async for each in told:
        if found := each.get("events"):
            return found
    raise AssertionError("the stream has ended")
