"""Texts that are held to calls of functions, by the demo model's tokenizer."""

import json
import random
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from llguidance import LLMatcher, LLParserLimits
from tokenizers import Tokenizer

from dsv4_tp import demo
from dsv4_tp.errors import RequestError
from dsv4_tp.guides import Vocabulary
from dsv4_tp.prompts.grammar import Tokens, calls_grammar
from tests.prompts.test_reading import D, Found, read, write_calls
from tests.soak.schemas import random_schema

TOKENIZER = Tokenizer.from_file(str(demo.path() / "tokenizer.json"))
VOCABULARY = Vocabulary.load(demo.path(), 700)
DSML = TOKENIZER.token_to_id(D)
TOKENS = Tokens(DSML, "tool_calls")
COLOURS = {"enum": ["red", "redder", "", "a<b", 3]}
WALK = {
    "name": "walk",
    "parameters": {
        "type": "object",
        "properties": {
            "to": {"type": "string", "description": "where"},
            "steps": {"type": "integer", "minimum": 0},
            "colour": {"anyOf": [{"$ref": "#/$defs/colour"}, {"type": "null"}]},
            "tree": {"$ref": "#/$defs/tree"},
            "code": {"type": "string", "pattern": "^[a-c]{2}$"},
            "any": {},
        },
        "required": ["to"],
        "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}, "colour": COLOURS},
    },
}
STOP = {"name": "stop"}


def matcher(*functions: Any, **how: Any) -> LLMatcher:
    texts = [json.dumps(function) for function in functions]
    grammar = calls_grammar(texts, TOKENS, **{"required": True, "single": False} | how)
    limits = LLParserLimits(verbose_errors=False)
    lark = LLMatcher.grammar_from_lark(grammar)
    found = LLMatcher(VOCABULARY.tokens, lark, log_level=0, limits=limits)
    assert not found.is_error(), found.get_error()
    return found


def ids_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def takes(found: LLMatcher, ids: list[int]) -> bool:
    return found.try_consume_tokens(ids) == len(ids) and found.is_accepting()


def is_allowed(text: str, **how: Any) -> bool:
    return takes(matcher(WALK, STOP, **how), ids_of(text))


def walk(found: LLMatcher, rng: random.Random) -> str:
    """A text made of anything that is allowed; its strings come to an end soon."""
    ids: list[int] = []
    while not found.is_accepting():
        bits = np.frombuffer(found.compute_bitmask(), np.uint8)
        allowed = np.flatnonzero(np.unpackbits(bits, bitorder="little")).tolist()
        closing = [DSML, ids_of("/")[0] if ids[-1:] == ids_of("<") else ids_of("<")[0]]
        wanted = [token for token in closing if token in allowed and rng.random() < 0.5]
        ids += wanted[:1] or [rng.choice(allowed)]
        assert found.consume_token(ids[-1])
    return TOKENIZER.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize(
    "arguments",
    [
        {"to": ""},
        {"to": 'a < b, </div> <<x>> say "a"\\ \n\n </ p'},
        {"to": "x", "steps": 12},
        {
            "to": "x",
            "colour": "redder",
            "tree": [[], [[]]],
            "code": "ab",
            "any": [1.5, {"a": None}],
        },
        *({"to": "x", "colour": colour} for colour in ("red", "", "a<b", 3, None)),
        *({"to": "x", "any": any_} for any_ in ("text", True, None, -1)),
    ],
)
def test_valid_calls_are_allowed_as_conversations_have_them(arguments: dict[str, Any]):
    text = write_calls([("walk", arguments)])
    text = re.sub('"true">(ab|a<b)<', r'"false">"\1"<', text)  # the grammar has these as JSON
    assert is_allowed(text)
    assert read([text]) == Found(calls=[["walk", json.dumps(arguments)]])


@pytest.mark.parametrize(
    "calls",
    [
        [],
        [("run", {})],
        [("walk", {})],  # `to` is required
        [("walk", {"steps": 1, "to": "x"})],  # not in this order
        [("walk", {"to": "x", "steps": -1})],
        [("walk", {"to": "x", "steps": "1"})],
        [("walk", {"to": 1})],
        [("walk", {"to": "x", "colour": "blue"})],
        [("walk", {"to": "x", "tree": [1]})],
        [("walk", {"to": "x", "code": "ad"})],
        [("walk", {"to": "x", "more": 1})],
        [("walk", {"to": "x", "to ": "x"})],
        [("stop", {"to": "x"})],
        [("walk", {"to": f"</{D[:-1]}"})],  # spelled: it would read as a closing tag
    ],
)
def test_other_calls_are_not(calls: list[tuple[str, dict[str, Any]]]):
    assert not is_allowed(write_calls(calls))


def test_one_call_or_more():
    one, two = ([("stop", {})] * n for n in (1, 2))
    assert is_allowed(write_calls(one), single=True)
    assert not is_allowed(write_calls(two), single=True)
    assert is_allowed(write_calls(two))
    assert not is_allowed(write_calls(two) + "more")
    assert not is_allowed("more" + write_calls(two))


def test_where_none_is_required_there_may_be_text_before_or_alone():
    good, bad = write_calls([("stop", {})]), write_calls([("run", {})])
    for text in ("", "I stop <b>", f"\n\n</{D[:-1]}"):
        assert is_allowed(text, required=False)
        assert is_allowed(text + good, required=False)
        assert not is_allowed(text + bad, required=False)
        assert not is_allowed(text + good + "more", required=False)
        assert is_allowed(text + good) == (not text)
    assert not is_allowed(good + good, required=False)


def test_an_answer_with_a_schema_is_by_that_or_calls():
    how = {"required": False, "json_schema": '{"type": "integer"}'}
    assert is_allowed("12", **how)
    assert is_allowed(write_calls([("stop", {})]), **how)
    for text in ("", "a", "12" + write_calls([("stop", {})])):
        assert not is_allowed(text, **how)


def test_a_token_cannot_be_spelled_with_others():
    first, *rest = write_calls([("stop", {})]).split(D)
    spelled = ids_of(D[:-1]) + ids_of(D[-1])
    assert DSML not in spelled
    assert takes(matcher(STOP), ids_of(first) + [t for part in rest for t in [DSML, *ids_of(part)]])
    assert not takes(matcher(STOP), ids_of(first) + [t for p in rest for t in spelled + ids_of(p)])


def test_what_is_required_and_not_described_may_be_anything():
    found = matcher({"name": "f", "parameters": {"required": ["a"]}})
    assert takes(found, ids_of(write_calls([("f", {"a": [1]})])))
    assert not takes(
        matcher({"name": "f", "parameters": {}}), ids_of(write_calls([("f", {"a": 1})]))
    )


def test_a_plain_string_is_written_in_one_way():
    text = write_calls([("walk", {"to": "x", "any": "text"})])
    assert is_allowed(text)
    assert not is_allowed(text.replace('"true">text', '"false">"text"'))


@pytest.mark.parametrize("case", range(12))
def test_whatever_is_allowed_is_read_as_valid_calls(case: int):
    rng = random.Random(case)
    names = rng.sample(["a", "b c", 'd"e', "f>", "", "é", "string"], 3)
    functions = {
        name: {
            "type": "object",
            "properties": {key: random_schema(rng) for key in names} | {"text": {"type": "string"}},
            "required": rng.sample([*names, "text"], 2),
            "additionalProperties": False,
        }
        for name in ("get", "get_more")
    }
    for schema in functions.values():  # definitions are the root's
        schema["$defs"] = {}
        for key in names:
            schema["$defs"] |= schema["properties"][key].pop("$defs", {})
    found = matcher(*({"name": name, "parameters": it} for name, it in functions.items()))
    said = read([walk(found, rng)])
    assert said.calls
    assert said == Found(calls=said.calls)
    for name, arguments in said.calls:
        jsonschema.Draft202012Validator(functions[name]).validate(json.loads(arguments))


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        ([], "tools: there is none"),
        ([json.dumps(WALK)] * 400, "offer fewer"),
        (["{"], "not JSON"),
        (["[]"], "a function is a JSON object"),
        (['{"name": ""}'], "'' is no name of a function"),
        (['{"name": "a\\"b"}'], "is no name of a function"),
        (['{"name": "f", "parameters": [1]}'], "parameters of 'f': a schema is a JSON object"),
        (['{"name": "f", "parameters": {"type": "string"}}'], 'must be "object"'),
        (['{"name": "f", "parameters": {"minProperties": 1}}'], "minProperties cannot be held to"),
        (['{"name": "f", "parameters": {"required": "a"}}'], "required must be a list"),
        (['{"name": "f", "parameters": {"properties": {"a\\nb": {}}}}'], "no name of a parameter"),
        (
            ['{"name": "f", "parameters": {"properties": {"a": {"$ref": "#"}}}}'],
            "must be to #/$defs/",
        ),
        (['{"name": "f", "parameters": {"properties": {"a": 1}}}'], "a schema is a JSON object"),
        (['{"name": "f", "parameters": {"properties": {"a": {"enum": 1}}}}'], "enum is a list"),
    ],
)
def test_what_cannot_be_held_to_is_refused(functions: list[str], words: str):
    with pytest.raises(RequestError, match=re.escape(words)):
        calls_grammar(functions, TOKENS, required=True, single=False)
