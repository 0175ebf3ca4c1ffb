"""mlx-lm's HTTP server as a process of its own: requests that share its steps, and its cache."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import mlx.core as mx
import pytest

from dsv4_tp import demo
from tests.mlx_lm.loaded import MORE, TEXTS, TURN, alone, loaded

READY_S, ANSWER_S = 120, 60


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    words = ["server", "--model", str(demo.path()), "--port", str(number)]
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "dsv4_tp.mlx_lm", *words],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_until_ready(number, process, log)
        yield number
    finally:
        process.kill()
        process.wait(timeout=READY_S)


def wait_until_ready(port: int, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        with suppress(OSError):
            if asked(port, "GET", "/health", None)["status"] == "ok":
                return
        time.sleep(0.2)
    raise AssertionError(f"the server did not get ready:\n{log.read_text()}")


def asked(port: int, method: str, path: str, body: object) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_S)
    try:
        connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return json.loads(response.read())
    finally:
        connection.close()


def completed(port: int, prompt: str) -> tuple[str, int]:
    """The text, and how many tokens of the prompt came out of the server's cache."""
    body = {"prompt": prompt, "max_tokens": MORE, "temperature": 0}
    answer = asked(port, "POST", "/v1/completions", body)
    details = answer["usage"]["prompt_tokens_details"]
    return answer["choices"][0]["text"], details["cached_tokens"]


def text_alone(prompt: str) -> str:
    tokenizer = loaded()[1]
    return tokenizer.decode(alone(tokenizer.encode(prompt), dtype=mx.bfloat16))


@pytest.mark.slow
def test_requests_at_the_same_time_get_what_each_gets_alone(port: int) -> None:
    texts = TEXTS[::3]
    with ThreadPoolExecutor(len(texts)) as pool:
        found = list(pool.map(lambda text: completed(port, text), texts))
    assert [text for text, _ in found] == [text_alone(text) for text in texts]


def test_a_second_turn_starts_from_the_cache(port: int) -> None:
    first, _ = completed(port, TEXTS[3])
    second, reused = completed(port, TEXTS[3] + first + TURN)
    assert reused >= len(loaded()[1].encode(TEXTS[3]))
    assert second == text_alone(TEXTS[3] + first + TURN)


@pytest.mark.slow
def test_a_prompt_that_leaves_a_cached_one_half_way_is_read_anew(port: int) -> None:
    """Both tell of the same codes at first."""
    completed(port, TEXTS[5])
    found, reused = completed(port, TEXTS[1])
    assert reused == 0
    assert found == text_alone(TEXTS[1])
