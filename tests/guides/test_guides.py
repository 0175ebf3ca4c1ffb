"""Which tokens may come next, by the demo model's tokenizer."""

import errno
import json
import random
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from tokenizers import Tokenizer

from dsv4_tp import demo
from dsv4_tp.errors import ModelError, RequestError
from dsv4_tp.guides import Guide, Vocabulary, check, check_form, tokenizer_digest
from dsv4_tp.guides import form as rules
from tests.soak.schemas import random_schema

ROWS = 700  # of a head that is longer than the tokenizer
END = 1
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": 0, "maximum": 50},
            "b": {"type": "string", "maxLength": 4},
            "c": {"type": "array", "items": {"enum": ["x", None]}, "minItems": 1, "maxItems": 3},
        },
        "required": ["a", "c"],
        "additionalProperties": False,
    }
)
TOKENIZER = Tokenizer.from_file(str(demo.path() / "tokenizer.json"))


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary.load(demo.path(), ROWS)


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False).ids)


def allowed(guide: Guide, generated: tuple[int, ...]) -> list[int] | None:
    bits = guide.allowed(generated)
    if bits is None:
        return None
    return np.flatnonzero(np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")).tolist()


def walk(guide: Guide, rng: random.Random) -> tuple[int, ...]:
    """A text made of anything that is allowed, blanks but seldom, and its stop token."""
    taken: tuple[int, ...] = ()
    while taken[-1:] != (END,):
        found = allowed(guide, taken)
        solid = [token for token in found if token == END or TOKENIZER.decode([token]).strip()]
        taken += (rng.choice(solid or found),)
    return taken


def test_whatever_is_allowed_makes_a_text_that_validates(vocabulary: Vocabulary):
    rng = random.Random(0)
    texts = [TOKENIZER.decode(walk(Guide(vocabulary, SCHEMA, [END]), rng)) for _ in range(40)]
    valid = jsonschema.Draft202012Validator(json.loads(SCHEMA))
    assert all(valid.is_valid(json.loads(text)) for text in texts)
    assert len(set(texts)) > 35


@pytest.mark.parametrize("case", range(25))
def test_texts_of_random_schemas_validate(vocabulary: Vocabulary, case: int):
    schema = random_schema(random.Random(case))
    rules.compile_form(json.dumps(schema))
    taken = walk(Guide(vocabulary, json.dumps(schema), [END]), random.Random(case))
    assert jsonschema.Draft202012Validator(schema).is_valid(json.loads(TOKENIZER.decode(taken)))


def test_every_beginning_gets_the_same_answer_in_any_order(vocabulary: Vocabulary):
    rng = random.Random(1)
    asked = Guide(vocabulary, SCHEMA, [END])
    for _ in range(6):
        text = walk(Guide(vocabulary, SCHEMA, [END]), rng)
        wrong = [(*text[:n], rng.randrange(ROWS), *text[n:]) for n in range(len(text))]
        beginnings = [text[:n] for n in range(len(text) + 1)] + wrong
        rng.shuffle(beginnings)
        for beginning in beginnings:
            alone = Guide(vocabulary, SCHEMA, [END])
            assert asked.allowed(beginning) == alone.allowed(beginning)


def test_after_the_end_only_stop_ids_are_allowed(vocabulary: Vocabulary):
    guide = Guide(vocabulary, SCHEMA, [END, 5])
    done = ids_of('{"a": 7, "c": ["x"]}')
    assert allowed(guide, done) == [END, 5]
    assert allowed(guide, (*done, END)) is None
    assert END not in allowed(guide, done[:-1])


def test_where_a_text_may_end_or_go_on_both_are_allowed(vocabulary: Vocabulary):
    guide = Guide(vocabulary, '{"type": "integer"}', [END])
    assert allowed(guide, ids_of("12")) == [END, *sorted(ids_of("0123456789"))]
    assert allowed(guide, (*ids_of("12"), END)) is None
    assert allowed(guide, ids_of("3"))[0] == END
    # The library's own mark of an end is no stop id of this request.
    assert allowed(Guide(vocabulary, '{"type": "integer"}', [2]), ids_of("1"))[0] == 2


def test_special_tokens_and_rows_without_a_token_are_never_text(vocabulary: Vocabulary):
    special = {token for token in range(ROWS) if TOKENIZER.id_to_token(token) is None}
    special |= {each["id"] for each in json.loads(TOKENIZER.to_str())["added_tokens"]}
    inside = allowed(Guide(vocabulary, '{"type": "string"}', [END]), ids_of('"a'))
    assert len(inside) > 400
    assert not special.intersection(inside)


def test_a_name_cannot_pass_for_another(vocabulary: Vocabulary):
    schema = {"properties": {"a": {"type": "integer"}}, "additionalProperties": {"type": "null"}}
    guide = Guide(vocabulary, json.dumps({"type": "object"} | schema), [END])
    assert END in allowed(guide, ids_of('{"b":null}'))
    assert allowed(guide, ids_of('{"a":null}')) is None
    assert allowed(guide, ids_of(r'{"\u0061":null}')) is None


def test_blanks_come_to_an_end(vocabulary: Vocabulary):
    guide = Guide(vocabulary, SCHEMA, [END])
    (line,), (space,) = ids_of("\n"), ids_of(" ")
    begun = ids_of("{")
    assert {line, space} <= set(allowed(guide, begun))
    assert not {line, space} & set(allowed(guide, (*begun, space)))
    indented = allowed(guide, (*begun, line, *19 * [space]))
    assert (space in indented, line in indented) == (True, False)
    assert space not in allowed(guide, (*begun, line, *20 * [space]))


REFUSED = {
    "": "not JSON",
    "[1]": "a schema is a JSON object",
    '{"type": "strin"}': "Invalid type: strin",
    '{"not": {}}': 'Unimplemented keys: ["not"]',
    '{"not": {}, "x-guidance": {"lenient": true}}': 'Unimplemented keys: ["not"]',
    '{"type": "integer", "minimum": 5, "maximum": 3}': "minimum (5) is greater than maximum (3)",
    '{"$ref": "https://example.org/a"}': "does not fetch",
    '{"type": "string", "pattern": "(?=a)b"}': "look-around",
    "[" * 9000: "not JSON",
    '{"$ref": "#"}': "no text of any length is valid",
    '{"type": "integer", "minimum": 1' + "0" * 25 + "}": "Failed to generate regex",
    " " * 50_001: "it has 50,001 characters; the most are 50,000",
    json.dumps({"anyOf": [{"properties": {f"p{n}": {} for n in range(1001)}}]}): (
        "it has 1,001 properties; the most are 1,000"
    ),
    json.dumps({"patternProperties": {f"^{n}$": {"pattern": "a"} for n in range(51)}}): (
        "it has 102 patterns; the most are 100"
    ),
}
# An automaton of a hundred million states.
ENDLESS = json.dumps({"allOf": [{"type": "integer", "multipleOf": n} for n in (97, 101, 103, 107)]})


@pytest.mark.parametrize("schema", REFUSED, ids=lambda schema: schema[:40])
def test_a_schema_that_cannot_be_held_to_is_refused(vocabulary: Vocabulary, schema: str):
    with pytest.raises(RequestError) as checked:
        rules.compile_form(schema)
    assert str(checked.value).startswith("json_schema: ")
    assert REFUSED[schema] in str(checked.value)
    with pytest.raises(RequestError):
        Guide(vocabulary, schema, [END]).allowed(())


def test_a_schema_is_checked_by_a_process_of_its_own():
    check_form('{"enum": ["é"]}')
    with pytest.raises(RequestError, match=r'^json_schema: Unimplemented keys: \["not"\]$'):
        check_form('{"not": {"const": "é"}}')


@pytest.mark.parametrize("limit", [{"MOST_CPU_S": 1}, {"WAIT_S": 0.3}], ids=str)
def test_a_schema_that_takes_too_long_is_refused(monkeypatch, limit: dict[str, float]):
    for name, value in limit.items():
        monkeypatch.setattr(check, name, value)
    with pytest.raises(RequestError, match=r"^json_schema: it is too much for the grammar library"):
        check_form(ENDLESS)


def test_errors_of_the_library_are_short_and_plain():
    panic = "panic: assertion failed: n > 0\n<backtrace>\n 0: std::backtrace"
    assert str(rules.refusal("{}", panic)) == f"json_schema: {rules.TOO_MUCH}"
    assert len(str(rules.refusal("{}", "And (" * 9000))) < 600


def test_what_comes_before_a_token_is_free_and_does_not_end(vocabulary: Vocabulary):
    """As a text that thinks before it answers."""
    thought, after = ids_of("so } it is [1 "), ids_of("</think>")[0]
    bare, guide = (Guide(vocabulary, SCHEMA, [END], after=token) for token in (None, after))
    for count in range(len(thought) + 1):
        assert {*range(ROWS)} - {*allowed(guide, thought[:count])} == {END}
    told = walk(bare, random.Random(1))
    for count in range(len(told)):
        assert guide.allowed((*thought, after, *told[:count])) == bare.allowed(told[:count])
    assert {*range(ROWS)} - {*allowed(guide, thought)} == {END}, "asked again"
    assert guide.allowed((*thought, after, after)) is None  # within the text it is no sign


def test_a_guide_that_failed_can_be_asked_again(vocabulary: Vocabulary, monkeypatch):
    pattern = json.dumps({"type": "string", "pattern": "^(a|b)*a(a|b){18}$"})
    monkeypatch.setattr("dsv4_tp.guides.guide.LIMITS", rules.LLParserLimits(max_lexer_states=300))
    guide = Guide(vocabulary, pattern, [END])
    first = guide.allowed(())
    long = ids_of('"' + "".join(random.Random(2).choices("ab", k=2000)))
    with pytest.raises(RequestError, match="json_schema: "):
        guide.allowed(long)
    assert guide.allowed(()) == first


def test_a_tokenizer_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch):
    file = tmp_path / "tokenizer.json"
    file.touch()

    def lost(*_args: object, **_kwargs: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_text", lost)
    with pytest.raises(ModelError, match=f"{file}: cannot be read: Input/output error"):
        Vocabulary.load(tmp_path, ROWS)


def test_a_tokenizer_that_does_not_fit_is_named(tmp_path: Path):
    file = tmp_path / "tokenizer.json"
    assert tokenizer_digest(tmp_path) == ""
    with pytest.raises(ModelError, match=f"{file}: no such file; a JSON schema needs it"):
        Vocabulary.load(tmp_path, ROWS)
    for text in ("nonsense", "{}", '{"added_tokens": []}'):
        file.write_text(text)
        with pytest.raises(ModelError, match=f"{file}: no vocabulary of 700 tokens"):
            Vocabulary.load(tmp_path, ROWS)
    shutil.copy(demo.path() / "tokenizer.json", file)
    assert tokenizer_digest(tmp_path) == tokenizer_digest(demo.path()) != ""
    with pytest.raises(ModelError, match="100 vs 640"):
        Vocabulary.load(tmp_path, 100)
