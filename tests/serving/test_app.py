"""What HTTP clients are told, where a real cluster cannot show it quickly.

By the real client over real sockets; the texts and the faults are a stand-in's.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import openai
import pytest
from openai import AsyncOpenAI

from dsv4_tp import errors
from dsv4_tp.asks import Ask, Conversation, Finish, Logprob, Piece, Stats
from dsv4_tp.config import Restart
from dsv4_tp.coordinator.cluster import Phase, first_state
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.requests import Open, Requests
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.core import FinishReason
from dsv4_tp.prompts import BUILT_IN, Reading
from dsv4_tp.serving.app import App
from dsv4_tp.serving.door import listen, url
from dsv4_tp.serving.server import serving

_SOON_S = 30.0
END = Piece(
    (3,), "c", Finish(FinishReason.LENGTH, Stats(4, 3, 0.1, 0.1, 20, 1, 1, cached_tokens=2))
)
ABC = (Piece((1,), "a", None), Piece((2,), "b", None), END)
SAY: dict[str, Any] = {"model": "demo", "prompt": "x"}


class StandIn:
    """A coordinator and its texts: says pieces, pauses for seconds, raises errors."""

    def __init__(self, *script: Piece | Exception | float) -> None:
        self.script = script
        self.asked: list[Ask] = []
        self.opened = asyncio.Event()
        self.closed = asyncio.Event()
        requests = Requests(batch=1, queue=1)
        times = {"beat_s": 1, "prepare_s": 9, "fence_s": 9, "drain_s": 9}
        self.state = first_state({0: "a", 1: "b"}, requests, Restart(), **times, now_s=0)
        self.setup = SimpleNamespace(model_name="demo", context=4096)

    closing = 9

    def word(self, token: int) -> str:
        return "?abc"[token]

    def count(self, talk: Conversation) -> int:
        return sum(len(message.content) for message in talk.messages)

    def thinks(self, talk: Conversation) -> bool:
        return talk.thinking and talk.effort != "none"

    def reading(self, *, thinking: bool, calls: bool) -> Reading:
        return Reading(BUILT_IN, thinking=thinking, calls=calls)

    async def stream(self, ask: Ask, *, request_id: str = "") -> AsyncGenerator[Piece]:
        self.asked.append(ask)
        self.opened.set()
        try:
            for each in self.script:
                if isinstance(each, Exception):
                    raise each
                if isinstance(each, Piece):
                    yield each
                else:
                    await asyncio.sleep(each)
        finally:
            self.closed.set()


@asynccontextmanager
async def client_of(stand_in: StandIn, beat_s: float = 60.0) -> AsyncGenerator[AsyncOpenAI]:
    app = App(cast(Coordinator, stand_in), cast(Texts, stand_in), beat_s=beat_s)
    with listen("127.0.0.1", 0) as door:
        async with (
            serving(app.asgi(), door),
            AsyncOpenAI(base_url=url(door), api_key="-", max_retries=0) as client,
        ):
            yield client


def by_client(
    stand_in: Callable[[], StandIn],
    act: Callable[[AsyncOpenAI, StandIn], Awaitable[None]],
    **options: Any,
) -> None:
    async def run() -> None:
        it = stand_in()  # which is of this loop
        async with asyncio.timeout(_SOON_S), client_of(it, **options) as client:
            await act(client, it)

    asyncio.run(run())


def test_a_stream_and_a_whole_text():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        options = {"include_usage": True}
        stream = await client.completions.create(**SAY, stream=True, stream_options=options)
        *chunks, last = [chunk async for chunk in stream]
        assert [chunk.choices[0].text for chunk in chunks] == ["a", "b", "c"]
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None, None, "length"]
        assert (last.choices, last.usage.total_tokens) == ([], 7)
        whole = await client.completions.create(**SAY, stop="x", extra_body={"top_k": 3})
        assert whole.choices[0].text == "abc"
        assert whole.usage.prompt_tokens_details.cached_tokens == 2
        assert it.asked[1] == Ask("x", stop="x", top_k=3)

    by_client(lambda: StandIn(*ABC), act)


def test_log_probabilities_in_the_old_form():
    ab = Piece((1, 2), "ab", None, (Logprob(-0.1, ((1, -0.1), (3, -2.0))), Logprob(-3.0, ())))

    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        stream = await client.completions.create(**SAY, logprobs=2, stream=True)
        told = [chunk.choices[0].logprobs async for chunk in stream]
        assert [(each.tokens, each.text_offset) for each in told] == [
            (["a", "b"], [0, 1]),
            (["c"], [2]),
        ]
        assert told[0].token_logprobs == [-0.1, -3.0]
        assert told[0].top_logprobs == [{"a": -0.1, "c": -2.0}, {"b": -3.0}]

    end = replace(END, logprobs=(Logprob(-1.0, ()),))
    by_client(lambda: StandIn(ab, end), act)


REFUSED = [
    (errors.RequestError("top_p is 3; it must be 0 to 1"), 400, None, None),
    (errors.ModelError("tokenizer.json: no such file"), 400, None, None),
    (errors.BusyError("64 requests wait already"), 429, "1", "rate_limit_exceeded"),
    (errors.NotReadyError("it is loading"), 503, "5", "service_unavailable"),
    (errors.RankFailure("rank 1 on b: killed"), 503, "5", "service_unavailable"),
    (errors.DeadlineError("too late"), 504, None, None),
    (errors.NumericsError("no numbers"), 500, None, None),
    (errors.Dsv4Error("something else"), 500, None, None),
]


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(
    ("error", "status", "retry_s", "code"),
    REFUSED,
    ids=[type(case[0]).__name__ for case in REFUSED],
)
def test_what_fails_before_the_first_piece_has_a_status(
    error: errors.Dsv4Error, status: int, retry_s: str | None, code: str | None, streamed: bool
):
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            await client.completions.create(**SAY, stream=streamed)
        assert (caught.value.status_code, caught.value.body["message"]) == (status, str(error))
        assert caught.value.code == code
        assert caught.value.param == ("top_p" if "top_p" in str(error) else None)
        headers = caught.value.response.headers
        assert headers.get("retry-after") == retry_s
        # The client must not try again what would cost as much and fail as well.
        assert (headers.get("x-should-retry") == "false") is (status >= 500 and not retry_s)

    by_client(lambda: StandIn(error), act)


def test_what_fails_on_the_way_is_told_and_is_no_end():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        stream = await client.completions.create(**SAY, stream=True)
        assert (await anext(stream)).choices[0].text == "a"
        with pytest.raises(openai.APIError, match="rank 1 on b: killed"):
            await anext(stream)
        raw = await client.completions.with_raw_response.create(**SAY, stream=True)
        lines = [line async for line in raw.http_response.aiter_lines() if line]
        assert json.loads(lines[-1].removeprefix("data: "))["error"]["type"] == "server_error"

    by_client(lambda: StandIn(ABC[0], errors.RankFailure("rank 1 on b: killed")), act)


def test_a_silent_stream_says_that_it_lives():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        raw = await client.completions.with_raw_response.create(**SAY, stream=True)
        lines = [line async for line in raw.http_response.aiter_lines() if line]
        assert lines[0] == ": keep-alive"
        first = next(at for at, line in enumerate(lines) if line.startswith("data: "))
        assert ": keep-alive" in lines[first:]
        assert lines[-1] == "data: [DONE]"

    by_client(lambda: StandIn(0.3, ABC[0], 0.3, END), act, beat_s=0.05)


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("script", [(60.0,), (ABC[0], 60.0)], ids=["before", "on the way"])
def test_a_client_that_leaves_ends_its_text(script: tuple[Piece | float, ...], streamed: bool):
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        async def ask() -> None:
            answer = await client.completions.create(**SAY, stream=streamed)
            async for _ in answer:
                pass

        asking = asyncio.create_task(ask())
        await it.opened.wait()
        asking.cancel()
        assert await it.closed.wait()

    by_client(lambda: StandIn(*script), act)


@pytest.mark.parametrize("phase", list(Phase))
def test_readiness_is_what_the_state_says(phase: Phase):
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        # A full queue is no reason.
        full = {str(number): Open(cast(Any, None), 0, 1) for number in range(9)}
        requests = replace(it.state.requests, open=full)
        it.state = replace(it.state, phase=phase, requests=requests)
        for path in ("/health", "/health/ready"):
            response = await client._client.get(url_of(client, path))
            assert response.status_code == (200 if phase is Phase.READY else 503)
            assert ("retry-after" in response.headers) is (phase is not Phase.READY)
            assert response.json()["state"] == phase.value
            assert response.json()["ranks"][1] == {"rank": 1, "host": "b", "phase": "starting"}
            assert (response.json()["reason"] is None) is (phase is Phase.READY)
            head = await client._client.head(url_of(client, path))
            assert (head.status_code, head.content) == (response.status_code, b"")
        assert (await client._client.get(url_of(client, "/health/live"))).status_code == 200

    by_client(StandIn, act)


def test_models_and_paths():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        assert [model.id async for model in client.models.list()] == ["demo"]
        assert (await client.models.retrieve("demo")).owned_by == "dsv4-tp"
        with pytest.raises(openai.NotFoundError, match="model 'x' is not here") as caught:
            await client.models.retrieve("x")
        assert caught.value.code == "model_not_found"
        with pytest.raises(openai.NotFoundError, match="no POST /v1/embeddings") as caught:
            await client.embeddings.create(model="demo", input="x")
        assert caught.value.code == "unknown_url"
        with pytest.raises(openai.APIStatusError) as caught:
            await client.completions.create(model="demo", prompt="x" * (17 * 2**20))
        assert caught.value.status_code == 413

    by_client(StandIn, act)


def test_a_field_that_nobody_knows_is_refused():
    async def act(client: AsyncOpenAI, _it: StandIn) -> None:
        with pytest.raises(openai.BadRequestError, match="did you mean top_k") as caught:
            await client.completions.create(**SAY, extra_body={"topk": 1})
        assert caught.value.param == "topk"

    by_client(lambda: StandIn(*ABC), act)


def url_of(client: AsyncOpenAI, path: str) -> str:
    return str(client.base_url).removesuffix("/v1/") + path


def test_a_page_of_another_site_is_kept_out():
    async def act(client: AsyncOpenAI, it: StandIn) -> None:
        for host, status in (("elsewhere.example", 400), ("localhost:9000", 200)):
            response = await client._client.get(
                url_of(client, "/v1/models"), headers={"host": host}
            )
            assert response.status_code == status

    by_client(StandIn, act)
