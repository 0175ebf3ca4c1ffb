"""What /v1/completions may be asked; what is wrong is told with its field."""

import json
from typing import Any

import pytest

from dsv4_tp.asks import Ask
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.completions import parse
from dsv4_tp.serving.failures import told


def body(**fields: Any) -> bytes:
    return json.dumps({"prompt": "x"} | fields).encode()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tempeture", 1), ("n", 0), ("n", 17),
        ("prompt", None), ("prompt", 5), ("prompt", [1, "a"]), ("prompt", [-1]),
        ("prompt", [2**31]), ("prompt", ["a", "b"]), ("prompt", [[1], [2]]), ("prompt", [1.5]),
        ("max_tokens", -1), ("max_tokens", "5"), ("max_tokens", 2**40), ("max_tokens", True),
        ("temperature", "hot"), ("temperature", float("nan")), ("top_p", [1]), ("top_k", -1),
        ("min_p", float("inf")), ("seed", -1), ("seed", 2**64), ("seed", 1.5),
        ("stop", 5), ("stop", [5]), ("logit_bias", {"a": 1}), ("logit_bias", {"5": "1"}),
        ("logit_bias", [1]), ("logprobs", 6), ("logprobs", True), ("stream", "yes"),
        ("stream_options", {"include_usage": True}), ("stream_options", 5), ("model", 5),
        ("best_of", 3), ("echo", True), ("suffix", "y"), ("time_limit_s", "1"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(field: str, value: Any):
    with pytest.raises(RequestError) as refused:
        parse(body(**{field: value}))
    assert told(refused.value)["error"]["param"].split("[")[0] == field


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"\xff", b'{"prompt": "\xff"}', b"[" * 9999]
)
def test_what_is_no_object(data: bytes):
    with pytest.raises(RequestError, match=r"^not a JSON object: "):
        parse(data)


def test_a_missing_prompt():
    with pytest.raises(RequestError, match=r"^prompt: Field required"):
        parse(b"{}")


@pytest.mark.parametrize("prompt", ["x", ["x"], [1, 2], [[1, 2]]])
def test_the_forms_of_a_prompt(prompt: Any):
    asked = parse(body(prompt=prompt)).ask().prompt
    assert asked == ("x" if "x" in prompt else [1, 2])


def test_what_is_said_is_asked_and_nothing_else():
    fields = {"max_tokens": 5, "seed": 2**64 - 1, "stop": ["a", "b"], "logit_bias": {"7": -1}}
    asked = parse(body(**fields, n=1, best_of=None, echo=False, suffix=None, user="me"))
    assert asked.ask() == Ask(
        "x", max_tokens=5, seed=2**64 - 1, stop=["a", "b"], logit_bias={7: -1.0}
    )
    assert asked.ask() == parse(body(**fields)).ask()
    assert parse(body(temperature=None, stop=None)).ask() == Ask("x")
