"""What the log says of each request, and what it never says."""

import re
import shlex
from typing import Any, cast

import openai
import pytest
from starlette.testclient import TestClient

from dsv4_tp import errors
from dsv4_tp.asks import Piece
from dsv4_tp.config import Http
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.serving.app import App
from tests.serving.test_app import ABC, SAY, StandIn, by_client

SECRET = "seCret"


def client(*script: Piece | Exception | float) -> TestClient:
    it = StandIn(*script)
    app = App(cast(Coordinator, it), cast(Texts, it)).asgi(Http())
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


def lines(told: str, event: str = "http") -> list[dict[str, str]]:
    """The fields of each line of that event."""
    words = [shlex.split(line) for line in told.splitlines()]
    return [dict(word.split("=", 1) for word in each[2:]) for each in words if each[1] == event]


def test_a_line_for_each_request(capsys: pytest.CaptureFixture[str]):
    answer = client(*ABC).post("/v1/completions", json=SAY, headers={"x-request-id": "mine-1"})
    (line,) = lines(capsys.readouterr().err)
    assert answer.headers["x-request-id"] == line.pop("request") == "mine-1"
    assert answer.json()["id"] == f"cmpl-{line.pop('id')}"
    assert re.fullmatch(r"\d\.\d{3}", line.pop("seconds"))
    assert line == {
        **{"method": "POST", "path": "/v1/completions", "status": "200", "ended": "length"},
        **{"prompt_tokens": "4", "cached_tokens": "2", "generated_tokens": "3"},
        "queue_s": "0.000",
    }


@pytest.mark.parametrize("said", [None, "", "x" * 65, "a b", "a\u00e9", "a=b", "../x"])
def test_an_id_that_is_none_is_not_taken(capsys: pytest.CaptureFixture[str], said: str | None):
    headers = {} if said is None else {"x-request-id": said.encode("latin-1")}
    answer = client(*ABC).post("/v1/completions", json=SAY, headers=cast(Any, headers))
    (line,) = lines(capsys.readouterr().err)
    assert answer.headers["x-request-id"] == line["request"] == line["id"]
    assert re.fullmatch(r"[0-9a-f]{16}", line["id"])


@pytest.mark.parametrize(
    ("error", "status", "ended"),
    [
        (errors.BusyError(SECRET), "429", "BusyError"),
        (errors.RankFailure(SECRET), "503", "RankFailure"),
    ],
)
def test_how_a_text_failed(capsys: pytest.CaptureFixture[str], error: Any, status: str, ended: str):
    client(error).post("/v1/completions", json=SAY)
    client(*ABC[:2], error).post("/v1/completions", json=SAY | {"stream": True})
    before, amid = lines(capsys.readouterr().err)
    assert (before["status"], before["ended"], before["generated_tokens"]) == (status, ended, "0")
    assert (amid["status"], amid["ended"], amid["generated_tokens"]) == ("200", ended, "2")


def test_a_client_that_left(capsys: pytest.CaptureFixture[str]):
    async def act(asking: Any, it: StandIn) -> None:
        stream = await asking.completions.create(**SAY, stream=True)
        await anext(stream)
        await stream.close()
        assert await it.closed.wait()

    by_client(lambda: StandIn(ABC[0], 60.0), act)
    (line,) = lines(capsys.readouterr().err)
    assert (line["client"], line["ended"], line["generated_tokens"]) == ("gone", "cancelled", "1")


def test_probes_have_no_line_and_all_answers_have_an_id(capsys: pytest.CaptureFixture[str]):
    asking = client()
    for path in ("/health", "/health/live", "/health/ready"):
        assert asking.get(path).headers["x-request-id"]
    assert capsys.readouterr().err == ""
    for path, status in (("/v1/models", "200"), ("/v1/%1b[2Jx%20y", "404")):
        answer = asking.get(path)
        (line,) = lines(capsys.readouterr().err)
        assert (answer.headers["x-request-id"], line["status"]) == (line["request"], status)
        assert not {"\x1b", " "} & set(line["path"])


def test_nothing_that_is_asked_or_heard_is_in_the_log(capfd: pytest.CaptureFixture[str]):
    """Whatever goes wrong, be it a mistake of ours."""
    said = {"prompt": SECRET, "stop": SECRET, "user": SECRET}
    odd = (
        *({"model": SECRET}, {"top_p": SECRET}, {"n": SECRET}, {"suffix": SECRET}),
        *({SECRET + " x": 1}, {"stream": True}, {"logit_bias": {SECRET: 1}}),
    )
    scripts = (
        [Piece((1,), SECRET, None), ABC[2]],
        [errors.RequestError(SECRET)],
        [KeyError(SECRET)],
        [ABC[0], ValueError(SECRET)],
    )
    for script in scripts:
        for fields in odd:
            asking = client(*script)
            asking.post("/v1/completions", json=said | fields, headers={"x-api-key": SECRET})
    client().post("/v1/completions", content=f"{{{SECRET}")
    told = capfd.readouterr()
    assert len(lines(told.err)) == len(scripts) * len(odd) + 1
    assert SECRET not in told.err + told.out


def test_a_mistake_of_ours_is_told_by_its_place(capsys: pytest.CaptureFixture[str]):
    answer = client(ABC[0], KeyError("x")).post("/v1/completions", json=SAY)
    assert (answer.status_code, answer.json()["error"]["type"]) == (500, "server_error")
    told = capsys.readouterr().err
    (fault,), (line,) = lines(told, "http-fault"), lines(told)
    assert fault["request"] == line["request"] == answer.headers["x-request-id"]
    assert (fault["error"], line["status"], line["ended"]) == ("KeyError", "500", "KeyError")
    assert "test_app.py:" in fault["at"]


def test_over_a_socket_such_a_stream_has_no_end():
    async def act(asking: Any, _it: StandIn) -> None:
        stream = await asking.completions.create(**SAY, stream=True)
        assert (await anext(stream)).choices[0].text == "a"
        with pytest.raises(openai.APIConnectionError):
            await anext(stream)

    by_client(lambda: StandIn(ABC[0], 0.1, KeyError("x")), act)
