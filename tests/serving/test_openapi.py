"""What /openapi.json says is so: schemathesis asks by it, of a real server over sockets."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks
from starlette.testclient import TestClient

from dsv4_tp.asks import Ask, Logprob, Piece
from dsv4_tp.config import Http
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.coordinator.witness import Witness
from dsv4_tp.serving.app import App
from dsv4_tp.serving.door import listen
from dsv4_tp.serving.keys import Keys
from dsv4_tp.serving.server import serving
from tests.serving.test_app import END, StandIn

_SOON_S = 30.0
KEY = b"a" * 16
EXAMPLES, MANY = 25, 400
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
TALK = [{"role": "user", "content": "hi"}]
USUAL: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "a", "logprobs": 2},
    "/v1/chat/completions": {"messages": TALK, "logprobs": True, "top_logprobs": 2},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": TALK, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": TALK},
}
READY = ("/health", "/health/ready")  # not yet, and 503 is no fault there


class Likely(StandIn):
    """Says two tokens to whatever is asked, with their log-probabilities if these are."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.witness = Witness(folder)

    async def stream(self, ask: Ask, *, request_id: str = "") -> AsyncGenerator[Piece]:
        likely = () if ask.logprobs is None else (Logprob(-0.1, ((1, -0.1), (2, -3.0))),)
        yield Piece((1,), "a", None, likely)
        yield replace(END, logprobs=likely)


def app_of(it: StandIn, keys: Keys | None = None) -> Any:
    return App(cast(Coordinator, it), cast(Texts, it)).asgi(Http(), keys)


def described(keys: Keys | None = None) -> dict[str, Any]:
    asking = TestClient(app_of(StandIn(), keys), base_url="http://127.0.0.1")
    return asking.get("/openapi.json", headers={"x-api-key": KEY.decode()}).json()


def small(schema: Any) -> Any:
    """Without bounds of lists that would be crossed by megabytes."""
    if isinstance(schema, dict):
        return {key: small(each) for key, each in schema.items() if key != "maxItems"}
    return [*map(small, schema)] if isinstance(schema, list) else schema


DOCUMENT = described()
OPERATIONS = {
    operation.ok().label: operation.ok()
    for operation in schemathesis.openapi.from_dict(small(DOCUMENT)).get_all_operations()
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server in a thread, as the clients of schemathesis wait for their answers."""
    folder = tmp_path_factory.mktemp("witness")
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve(door: Any) -> None:
        over = asyncio.Event()
        async with serving(app_of(Likely(folder)), door):
            ready.set_result((asyncio.get_running_loop(), over))
            await over.wait()

    with listen("127.0.0.1", 0) as door:
        thread = threading.Thread(target=asyncio.run, args=(serve(door),))
        thread.start()
        loop, over = ready.result(_SOON_S)
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        loop.call_soon_threadsafe(over.set)
        thread.join(_SOON_S)


def asked_at_random(label: str, mode: GenerationMode, address: str, examples: int) -> set[int]:
    """The statuses of so many answers, each of which was as it is described."""
    found: set[int] = set()
    health = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]

    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=health,
    )
    def ask(case: schemathesis.Case) -> None:
        response = case.call(base_url=address, timeout=_SOON_S)
        found.add(response.status_code)
        wanted = CHECKS[1:] if case.path in READY else CHECKS
        case.validate_response(response, checks=wanted)

    ask()
    return found


@pytest.mark.parametrize("path", USUAL)
def test_what_is_usually_asked_is_answered_by_it(path: str, address: str):
    body = {"model": "demo", **USUAL[path]}
    case = OPERATIONS[f"POST {path}"].Case(body=body, media_type="application/json")
    response = case.call(base_url=address, timeout=_SOON_S)
    assert response.status_code == 200
    case.validate_response(response, checks=CHECKS)


def test_it_is_openapi_and_needs_nobody_else():
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    for schema in DOCUMENT["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    found = re.findall(r'"\$ref": "(.*?)"', json.dumps(DOCUMENT))
    assert {ref.removeprefix("#/components/schemas/") for ref in found} <= {
        *DOCUMENT["components"]["schemas"]
    }


def test_it_tells_what_there_is():
    assert [*OPERATIONS] == [
        "GET /health",
        "GET /health/live",
        "GET /health/ready",
        "GET /metrics",
        "GET /v1/models",
        "GET /v1/models/{name}",
        "POST /v1/completions",
        "POST /v1/chat/completions",
        "POST /v1/responses",
        "POST /v1/messages",
        "POST /v1/messages/count_tokens",
        "GET /openapi.json",
    ]
    chat = DOCUMENT["paths"]["/v1/chat/completions"]["post"]
    assert {*chat["responses"]["200"]["content"]} == {"application/json", "text/event-stream"}
    assert "Retry-After" in chat["responses"]["429"]["headers"]
    asked = DOCUMENT["components"]["schemas"]["ChatRequest"]
    assert (asked["additionalProperties"], asked["properties"]["store"]) == (
        False,
        {"enum": [None, False]},
    )


def test_it_tells_who_needs_a_key():
    assert DOCUMENT["security"] == []
    wanted = described(Keys((sha256(KEY).digest(),)))
    assert wanted["security"] == [{"bearer": []}, {"header": []}]
    assert wanted["paths"]["/health"]["get"]["security"] == []


@pytest.mark.parametrize("label", OPERATIONS)
def test_what_is_asked_by_it_is_answered_by_it(label: str, address: str):
    found = asked_at_random(label, GenerationMode.POSITIVE, address, EXAMPLES)
    assert found <= {200, 400, 404, 503}


@pytest.mark.parametrize("label", [label for label in OPERATIONS if label.startswith("POST")])
def test_what_is_against_it_is_refused_by_it(label: str, address: str):
    found = asked_at_random(label, GenerationMode.NEGATIVE, address, EXAMPLES)
    assert found & {400, 415}
    assert found <= {200, 400, 404, 415}


@pytest.mark.slow
@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
def test_much_is_asked_by_it(label: str, mode: GenerationMode, address: str):
    if mode is GenerationMode.POSITIVE or label.startswith("POST"):
        assert asked_at_random(label, mode, address, MANY)
