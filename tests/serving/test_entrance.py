"""Who is let in, and what those are told who are not; nothing of a body is read for them."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from starlette.testclient import TestClient

from dsv4_tp.config import Http
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.serving.app import App
from dsv4_tp.serving.keys import Keys, read_keys
from tests.serving.test_app import ABC, SAY, StandIn

KEY = "sk-0123456789abcdef"
HERE = "http://127.0.0.1:8000"
OUTSIDE = Http("0.0.0.0")


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return read_one(tmp_path)


def read_one(folder: Path) -> Keys:
    file = folder / "keys"
    file.write_text(KEY)
    file.chmod(0o600)
    return read_keys(file)


def client(http: Http = Http(), keys: Keys | None = None, at: str = HERE) -> TestClient:  # noqa: B008
    it = StandIn(*ABC)
    app = App(cast(Coordinator, it), cast(Texts, it)).asgi(http, keys)
    return TestClient(app, base_url=at, raise_server_exceptions=False)


SHOWN: dict[str, dict[str, str]] = {
    "bearer": {"authorization": f"Bearer {KEY}"},
    "lower": {"authorization": f"bearer {KEY}"},
    "anthropic": {"x-api-key": KEY},
    "either": {"x-api-key": KEY, "authorization": "Bearer -"},
}
NOT_SHOWN: dict[str, dict[str, str]] = {
    "none": {},
    "wrong": {"authorization": "Bearer sk-0123456789abcdeX"},
    "empty": {"authorization": "Bearer ", "x-api-key": ""},
    "bare": {"authorization": KEY},
    "basic": {"authorization": f"Basic {KEY}"},
    "longer": {"x-api-key": KEY + "0"},
}


@pytest.mark.parametrize("headers", SHOWN.values(), ids=SHOWN)
def test_a_key_lets_in(keys: Keys, headers: dict[str, str]):
    answer = client(OUTSIDE, keys).post("/v1/completions", json=SAY, headers=headers)
    assert answer.json()["choices"][0]["text"] == "abc"


def endless() -> Iterator[bytes]:
    raise AssertionError("the body is asked for")
    yield b""


@pytest.mark.parametrize("http", [OUTSIDE, Http()], ids=["outside", "loopback"])
@pytest.mark.parametrize("headers", NOT_SHOWN.values(), ids=NOT_SHOWN)
def test_who_has_none_stays_out(keys: Keys, headers: dict[str, str], http: Http):
    asking = client(http, keys)
    mine = ("/v2/cluster", "/v2/cluster/events", "/page", "/page/", "/page/x")
    for path in ("/v1/models", "/v1/models/demo", "/metrics", "/health/x", "/health/", *mine):
        assert asking.get(path, headers=headers).status_code == 401
    answer = asking.post("/v1/completions", content=endless(), headers=headers)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("invalid_api_key", "invalid_request_error")
    assert "sk-" not in answer.text


def test_refusals_are_in_the_words_of_the_path(keys: Keys):
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        answer = client(OUTSIDE, keys).post(path, content=endless())
        assert answer.status_code == 401
        assert (answer.json()["type"], answer.json()["error"]["type"]) == (
            "error",
            "authentication_error",
        )
        assert answer.json()["request_id"] == answer.headers["request-id"]
        page = client(OUTSIDE, keys).post(path, headers={"origin": "http://x.example"})
        assert (page.status_code, page.json()["error"]["type"]) == (403, "permission_error")
    assert client().post("/v1/messagesx").json()["error"]["code"] == "unknown_url"


def test_health_is_told_to_all_but_hosts_and_reasons_are_not(keys: Keys):
    asking = client(OUTSIDE, keys)
    assert asking.get("/health/live").status_code == 200
    for path in ("/health", "/health/ready"):
        assert asking.get(path).json() == {"state": "starting", "epoch": 0}
        known = asking.get(path, headers=SHOWN["bearer"]).json()
        assert (known["ranks"][1]["host"], known["reason"][:11]) == ("b", "the cluster")
        assert client().get(path).json() == known


@pytest.mark.parametrize(
    ("http", "at", "status"),
    [
        (Http(), "http://elsewhere.example:8000", 400),
        (Http(), "http://localhost:9000", 200),
        (Http("127.0.0.2"), "http://127.0.0.2", 200),
    ],
)
def test_without_keys_it_answers_to_this_machines_names(http: Http, at: str, status: int):
    assert client(http, None, at).get("/v1/models").status_code == status


@pytest.mark.parametrize("http", [OUTSIDE, Http()], ids=["outside", "loopback"])
def test_with_keys_it_answers_to_any_name(keys: Keys, http: Http):
    asking = client(http, keys, "https://behind-a-proxy.example")
    assert asking.get("/v1/models", headers=SHOWN["bearer"]).status_code == 200
    assert asking.get("/v1/models").status_code == 401


PAGE = "https://chat.example:8443"
PAGES = Http(origins=(PAGE, "app://notes"))
ASKING = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization",
}


@pytest.mark.parametrize("page", PAGES.origins)
def test_a_page_that_is_named_may_ask(keys: Keys, page: str):
    asking = client(PAGES, keys)
    before = asking.options("/v1/completions", headers={"origin": page} | ASKING)  # without a key
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (200, page)
    assert "authorization" in before.headers["access-control-allow-headers"]
    for headers, status in ((SHOWN["bearer"], 200), ({}, 401)):
        answer = asking.post("/v1/completions", json=SAY, headers={"origin": page} | headers)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (status, page)
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("http", [PAGES, Http(), OUTSIDE], ids=["pages", "loopback", "outside"])
@pytest.mark.parametrize("page", ["https://chat.example", "null", "http://127.0.0.1:3000"])
def test_another_page_may_not(keys: Keys, page: str, http: Http):
    asking = client(http, keys)
    headers = SHOWN["bearer"] | {"origin": page}
    answer = asking.post("/v1/completions", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_not_allowed")
    before = asking.options("/v1/completions", headers={"origin": page} | ASKING)
    assert before.status_code == 403
    assert not [name for name in (*answer.headers, *before.headers) if name.startswith("access")]


def test_a_page_of_this_very_place_may():
    answer = client().post("/v1/completions", json=SAY, headers={"origin": HERE})
    assert answer.status_code == 200


def test_a_body_that_is_announced_as_too_large_is_not_read():
    headers = {"content-length": str(16 * 2**20 + 1)}
    answer = client().post("/v1/completions", content=endless(), headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "invalid_request_error")
