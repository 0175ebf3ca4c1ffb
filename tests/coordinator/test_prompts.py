"""What a client asks becomes a request, or is refused before any rank hears of it."""

import asyncio
import json
import shutil
import threading
from pathlib import Path
from typing import cast

import pytest

from dsv4_tp import demo
from dsv4_tp.asks import Ask
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.modelspec import read_spec

SPEC = read_spec(demo.path())


def test_a_schema_goes_to_the_ranks_as_it_is():
    schema = json.dumps({"type": "object"}, indent=3)
    asked = Ask("x", json_schema=schema)
    assert Prompts(demo.path(), SPEC).request(asked).json_schema == schema
    assert Prompts(demo.path(), SPEC).request(Ask("x")).json_schema == ""


@pytest.mark.parametrize(
    ("schema", "says"),
    [("", "it is not JSON"), ('{"not": {}}', 'Unimplemented keys: ["not"]')],
)
def test_a_schema_that_cannot_be_held_to_is_refused(schema: str, says: str):
    asked = Ask("x", json_schema=schema)
    with pytest.raises(RequestError, match=r"^json_schema: ") as refused:
        Prompts(demo.path(), SPEC).request(asked)
    assert says in str(refused.value)


def test_a_schema_is_checked_beside_the_loop(monkeypatch):
    threads: list[threading.Thread] = []

    def checks(_schema: str) -> None:
        threads.append(threading.current_thread())
        raise RequestError("seen")

    async def ask() -> None:
        # Nothing is asked of the coordinator before the check is done.
        texts = Texts(cast(Coordinator, None), Prompts(demo.path(), SPEC))
        with pytest.raises(RequestError, match="seen"):
            await anext(texts.stream(Ask("x", json_schema="{}")))

    monkeypatch.setattr("dsv4_tp.coordinator.prompts.check_schema", checks)
    asyncio.run(ask())
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_without_a_tokenizer_no_text_can_be_held_to_a_schema(tmp_path: Path):
    for name in ("config.json", "generation_config.json"):
        shutil.copy(demo.path() / name, tmp_path)
    prompts = Prompts(tmp_path, SPEC)
    assert prompts.request(Ask([5])).prompt == (5,)
    assert prompts.word(5) == "token_id:5"
    with pytest.raises(ModelError, match=r"tokenizer\.json: no such file; json_schema needs it"):
        prompts.request(Ask([5], json_schema="{}"))
