"""Prompts to ids, by the tokenizer of a checkpoint."""

import json
import shutil
from pathlib import Path

import pytest

from dsv4_tp import demo
from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.text import Text

GOLDEN = Path(__file__).parents[1] / "golden/layouts/a_official_fp8_fp4"
BOS, USER, ASSISTANT, CLOSED = 0, 259, 260, 262  # of that tokenizer


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.load(GOLDEN)


def test_a_raw_prompt_is_bos_and_the_text_as_it_is(text: Text):
    ids = text.prompt_ids(" a\n")
    assert ids[0] == BOS
    assert text.tokenizer.decode(list(ids[1:])) == " a\n"


def test_special_tokens_are_added_by_nobody_else(text: Text):
    assert text.prompt_ids("ab") == (BOS, *text.tokenizer.encode("ab").ids)


def test_a_user_turn_has_the_release_s_format(text: Text):
    hello = text.prompt_ids("Hello")[1:]
    assert text.chat_ids("Hello") == (BOS, USER, *hello, ASSISTANT, CLOSED)


@pytest.mark.parametrize("method", ["prompt_ids", "chat_ids"])
def test_an_empty_prompt_is_refused(text: Text, method: str):
    with pytest.raises(RequestError, match="prompt is empty"):
        getattr(text, method)("")


def test_the_demo_model_has_a_tokenizer_of_this_kind():
    loaded = Text.load(demo.path())
    assert loaded.tokenizer.decode(list(loaded.chat_ids("hé"))) == "hé</think>"


def test_a_missing_tokenizer_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match=r"tokenizer\.json: no such file; text needs it"):
        Text.load(tmp_path)


def test_a_damaged_tokenizer_is_named(tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"tokenizer\.json: not a tokenizer"):
        Text.load(tmp_path)


def test_a_tokenizer_of_another_family_is_refused(tmp_path: Path):
    data = json.loads((GOLDEN / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(data | {"decoder": None}))
    with pytest.raises(ModelError, match="decoder is not ByteLevel"):
        Text.load(tmp_path)
    shutil.copy(GOLDEN / "tokenizer.json", tmp_path)
    data["added_tokens"] = [token for token in data["added_tokens"] if token["id"] != USER]
    del data["model"]["vocab"]["<｜User｜>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match="no token <｜User｜>"):
        Text.load(tmp_path)
