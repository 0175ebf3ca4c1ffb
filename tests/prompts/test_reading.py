"""The model's text as reasoning, content and calls, however it is cut into pieces."""

import json
import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.prompts import CallArguments, CallBegun, Content, Delta, Reading, Reasoning

D = "｜DSML｜"
MARKS = SimpleNamespace(thinking_end_token="</think>", dsml_token=D)
OPEN, CLOSE = f"\n\n<{D}tool_calls>\n", f"\n</{D}tool_calls>"
# Whole tags and broken ones; digits are what must not be lost.
FRAGMENTS = [
    *("1", "23", "4 5", "\n", "\n\n", " ", "<", "</", ">", '"', "{", "}", '{"k": 6}', "[7]"),
    *("a", ' string="true">', f"</{D}parameter>", f"\n</{D}parameter>"),
    *(D, f"<{D}", f"</{D}", "</think>", "</thi", "tool_calls>", "inv", "parameter"),
    *(f"<{D}tool_calls>", f"\n\n<{D}tool_calls>\n", f"\n\n<{D}tool", f"</{D}tool_calls>"),
    *(f'<{D}invoke name="f">', f'\n<{D}invoke name="g"  >', f'<{D}invoke name="', f"<{D}invoke>"),
    *(f"</{D}invoke>", f"</{D}inv>", f"</{D}inv", f"</{D}>", f"</{D}p>"),
    *(f'<{D}parameter name="x" string="true">', f'<{D}parameter name="y" string="false">'),
    *(f'<{D}parameter name="z">', f'<{D}parameter name="'),
]  # fmt: skip
fuzz = settings(deadline=None)
soup = st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join)
cuts = st.lists(st.integers(min_value=1, max_value=9), max_size=40)


@dataclass
class Found:
    """All that was read, joined."""

    reasoning: str = ""
    content: str = ""
    calls: list[list[str]] = field(default_factory=list)  # name and arguments
    cut: bool = False
    in_reasoning: bool = False


def pieces_of(text: str, sizes: list[int]) -> list[str]:
    """The text in pieces of these sizes, and the rest."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(text[at : at + size])
        at += size
    return [*pieces, text[at:]]


def deltas_of(pieces: list[str], **how: bool) -> tuple[list[Delta], Reading]:
    reading = Reading(MARKS, **({"thinking": False} | how))
    deltas = [delta for piece in pieces for delta in reading.add(piece)]
    return [*deltas, *reading.finish()], reading


def read(pieces: list[str], **how: bool) -> Found:
    deltas, reading = deltas_of(pieces, **how)
    found = Found(cut=reading.cut, in_reasoning=reading.in_reasoning)
    for delta in deltas:
        match delta:
            case Reasoning(text):
                found.reasoning += text
            case Content(text):
                found.content += text
            case CallBegun(index, name):
                assert index == len(found.calls)
                found.calls.append([name, ""])
            case CallArguments(index, text):
                assert index == len(found.calls) - 1
                found.calls[index][1] += text
    return found


def write_value(key: str, value: Any) -> str:
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    kind = "true" if isinstance(value, str) else "false"
    return f'<{D}parameter name="{key}" string="{kind}">{said}</{D}parameter>'


def write_call(name: str, arguments: dict[str, Any]) -> str:
    values = "\n".join(write_value(key, value) for key, value in arguments.items())
    return f'<{D}invoke name="{name}">\n{values}\n</{D}invoke>'


def write_calls(calls: list[tuple[str, dict[str, Any]]]) -> str:
    return OPEN + "\n".join(write_call(*call) for call in calls) + CLOSE if calls else ""


def can_be_said(value: Any) -> bool:
    """Nothing is escaped, so a value cannot have its closing tag in it."""
    said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return not re.search(f"</{D}(p[a-z_]*)?[^a-z_]", said + "<")


words = st.one_of(st.text(), soup)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), words)
nested = st.recursive(
    scalars.filter(lambda value: value not in (float("inf"), -float("inf"))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
keys = st.text(max_size=12).filter(
    lambda key: "\n" not in key and not re.search(r'"\s*>|"\s+s', key)
)
arguments = st.dictionaries(keys, nested.filter(can_be_said), max_size=4)
names = st.from_regex(r"[A-Za-z0-9_.é-]{1,20}", fullmatch=True)
calls_ = st.lists(st.tuples(names, arguments), max_size=3)


@settings(deadline=None, max_examples=50)
@given(
    st.text().filter(lambda text: "</think>" not in text),
    st.text(),
    calls_,
    cuts,
)
def test_what_is_written_is_read(
    reasoning: str, content: str, calls: list[tuple[str, dict[str, Any]]], sizes: list[int]
):
    text = f"{reasoning}</think>{content}{write_calls(calls)}"
    found = read(pieces_of(text, sizes), thinking=True)
    said = [[name, json.dumps(given, ensure_ascii=False)] for name, given in calls]
    assert found == Found(reasoning, content, said)


@fuzz
@given(soup, cuts, st.booleans())
def test_the_pieces_do_not_matter(text: str, sizes: list[int], thinking: bool):
    whole = read([text], thinking=thinking)
    assert read(pieces_of(text, sizes), thinking=thinking) == whole
    assert read(list(text), thinking=thinking) == whole


@fuzz
@given(soup, cuts)
def test_arguments_are_json_whatever_comes(text: str, sizes: list[int]):
    started = f'{OPEN}<{D}invoke name="f">{text}'
    found = read(pieces_of(started, sizes))
    assert found.calls
    assert all(isinstance(json.loads(said), dict) for _, said in found.calls)


@fuzz
@given(soup, cuts, st.booleans())
def test_nothing_but_tags_is_lost(text: str, sizes: list[int], thinking: bool):
    text = f'{OPEN}<{D}invoke name="f">{text}\n'  # no tag is half done at the end
    text = text if not thinking else f"8{text}</think>9{text}"
    deltas, _ = deltas_of(pieces_of(text, sizes), thinking=thinking)
    said = "".join(d.name if isinstance(d, CallBegun) else d.text for d in deltas)
    assert sorted(re.findall(r"\d", said)) == sorted(re.findall(r"\d", text))


@fuzz
@given(soup, cuts)
def test_a_text_without_calls_is_the_same_character_by_character(text: str, sizes: list[int]):
    found = read(pieces_of(text, sizes), calls=False)
    assert found == Found(content=text)
    found = read(pieces_of(text, sizes))
    assert found.calls or found.content == text
    found = read(pieces_of(text, sizes), thinking=True, calls=False)
    between = "" if found.in_reasoning else "</think>"
    assert found.reasoning + between + found.content == text


CALL = f'<{D}invoke name="f">\n<{D}parameter name="k" string="true">v</{D}parameter>\n</{D}invoke>'
F = ["f", '{"k": "v"}']


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"A{OPEN}{CALL}{CLOSE}", "A", [F]),
        (f"A\n{OPEN}{CALL}{CLOSE}", "A\n", [F]),  # only the block's own line breaks go
        # Blanks.
        (f"A <{D}tool_calls>{CALL}</{D}tool_calls>", "A ", [F]),
        (f"A{OPEN}\n \n{CALL}\n\n\t{CALL}\n\n{CLOSE}\n \n", "A", [F, F]),
        # The block's tags.
        (f"A\n\n<{D}toolcalls>\n{CALL}\n</{D}function_calls>", "A", [F]),
        (f"A\n\n{CALL}{CLOSE}", "A", [F]),
        (f"A{OPEN}{CALL}", "A", [F]),
        (f"A{OPEN}{CALL}{CLOSE}{OPEN}{CALL}{CLOSE}", "A", [F, F]),
        # Closing tags of calls and parameters.
        (f"{OPEN}{CALL.replace('invoke>', 'inv>')}\n{CALL}{CLOSE}", "", [F, F]),
        (f"{OPEN}{CALL.replace('invoke>', 'inv')}\n{CALL}{CLOSE}", "", [F, F]),
        (f"{OPEN}{CALL.removesuffix('voke>')}", "", [F]),
        (f"{OPEN}{CALL.replace(f'</{D}invoke>', '')}{CALL}{CLOSE}", "", [F, F]),
        (f"{OPEN}{CALL.replace(f'</{D}invoke>', '')}{CLOSE}", "", [F]),
        (f"{OPEN}{CALL.replace(f'</{D}parameter>', f'</{D}param>')}{CLOSE}", "", [F]),
        (f"{OPEN}{CALL.replace(f'</{D}parameter>', f'</{D}>')}{CLOSE}", "", [F]),
        (f"{OPEN}{CALL.replace(f'</{D}parameter>', f'</{D}parameter')}{CLOSE}", "", [F]),
        (f"{OPEN}{CALL.replace(f'</{D}parameter>', '')}{CLOSE}", "", [F]),
        (f"{OPEN}{CALL.replace(f'</{D}parameter>', '')}", "", [F]),
        # Text where tags should be.
        (f"A{OPEN}{CALL}\nB\n{CALL}{CLOSE}", "A\nB", [F, F]),
        (f"A{OPEN}{CALL}{CLOSE}\nB \n", "A\nB \n", [F]),
        (f"{OPEN}{CALL.replace('<' + D + 'param', 'B<' + D + 'param')}{CLOSE}", "\nB", [F]),
        # What is no call.
        (f"A\n\n<{D}tool", f"A\n\n<{D}tool", []),
        (f"A\n\n<{D}tool kit", f"A\n\n<{D}tool kit", []),
        (f"A{OPEN}B", f"A{OPEN}B", []),
        (f'Say <{D}invoke name="f"> to call', f'Say <{D}invoke name="f"> to call', []),
        (f'{OPEN}<{D}invoke name="f\nB', f'{OPEN}<{D}invoke name="f\nB', []),
        ("A</think>B", "A</think>B", []),
        ("2 <", "2 <", []),
    ],
)  # fmt: skip
def test_more_is_read_than_is_right(text: str, content: str, calls: list[list[str]]):
    assert read([text]) == read(list(text)) == Found(content=content, calls=calls)


@pytest.mark.parametrize(
    ("inside", "arguments"),
    [
        ("", "{}"),
        (write_value("k", "") + write_value("n", 1), '{"k": "", "n": 1}'),
        (f'<{D}parameter name="k">v</{D}parameter>', '{"k": "v"}'),
        (f'<{D}parameter name="k" string="maybe">1</{D}parameter>', '{"k": "1"}'),
        (f'<{D}parameter  name="k"  string="false" >[1,  2]</{D}parameter>', '{"k": [1,  2]}'),
        (f'<{D}parameter name="k" string="false">say "a"</{D}parameter>', r'{"k": "say \"a\""}'),
        (f'<{D}parameter name="k" string="false">NaN</{D}parameter>', '{"k": "NaN"}'),
        (f'<{D}parameter name="k" string="false"></{D}parameter>', '{"k": ""}'),
        (f'<{D}parameter name="k" string="false">{"[" * 9999}</{D}parameter>',
         json.dumps({"k": "[" * 9999})),
        (f'<{D}parameter name="k" string="false">{"9" * 9999}</{D}parameter>',
         '{"k": ' + "9" * 9999 + "}"),
        (write_value('a"b>c', 'say "a"\\\n'), r'{"a\"b>c": "say \"a\"\\\n"}'),
        (write_value("k", 1) + write_value("k", 2), '{"k": 1, "k": 2}'),
        (write_value("arguments", "no JSON"), '{"arguments": "no JSON"}'),
        ('{"k": [1]}\n', '{"k": [1]}'),
    ],
)  # fmt: skip
def test_arguments(inside: str, arguments: str):
    text = f'{OPEN}<{D}invoke name="f">\n{inside}\n</{D}invoke>{CLOSE}'
    assert read([text]) == read(list(text)) == Found(calls=[["f", arguments]])


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        (f'{OPEN}<{D}invoke name="f">', "{}"),
        (f'{OPEN}<{D}invoke name="f">\n<{D}parameter na', "{}"),
        (f"{OPEN}{CALL.removesuffix(f'</{D}invoke>')}", '{"k": "v"}'),
        (f"{OPEN}{CALL[: CALL.index('v</') + 1]}", '{"k": "v"}'),
        (f"{OPEN}{CALL[: CALL.index('v</') + 3]}", '{"k": "v</"}'),  # may be the value's own
        (f"{OPEN}{CALL[: CALL.index('v</') + 12]}", '{"k": "v"}'),
        (f'{OPEN}<{D}invoke name="f">\n{write_value("k", "v" + chr(10))}', r'{"k": "v\n"}'),
        (f'{OPEN}<{D}invoke name="f">{write_value("k", [1, 2])[:-19]}', '{"k": "[1, 2"}'),
    ],
)  # fmt: skip
def test_a_call_that_is_cut_off_is_json_and_said_to_be_cut(text: str, arguments: str):
    assert read([text]) == read(list(text)) == Found(calls=[["f", arguments]], cut=True)


def test_a_reasoning_without_an_end_has_calls_for_text():
    text = f"A{OPEN}{CALL}{CLOSE}"
    assert read([text], thinking=True) == Found(reasoning=text, in_reasoning=True)


def test_each_thing_comes_as_soon_as_it_is_certain():
    reading = Reading(MARKS, thinking=True)
    steps = [
        ("I see <", [Reasoning("I see ")]),
        ("b", [Reasoning("<b")]),
        ("</think>Now\n", [Content("Now")]),
        ("\nthen", [Content("\n\nthen")]),
        (f"\n\n<{D}tool_calls>", []),
        (f'\n<{D}invoke name="f"', []),
        (">", [CallBegun(0, "f")]),
        (f'\n<{D}parameter name="k" string="true', []),
        ('">', [CallArguments(0, '{"k": "')]),
        ('say "a" <', [CallArguments(0, r"say \"a\" ")]),
        ("b", [CallArguments(0, "<b")]),
        (f"</{D}para", []),
        ("meter>", [CallArguments(0, '"')]),
        (f'<{D}parameter name="n" string="false">', [CallArguments(0, ', "n": ')]),
        ("12", []),
        (f"</{D}parameter>\n", [CallArguments(0, "12")]),
        (f"</{D}invoke>", [CallArguments(0, "}")]),
        (f"\n</{D}tool_calls>", []),
    ]
    assert [(piece, list(reading.add(piece))) for piece, _ in steps] == steps
    assert reading.finish() == ()


@pytest.mark.parametrize("start", ["", f"{OPEN}{CALL}", OPEN + CALL[: CALL.index("v</")]])
@pytest.mark.parametrize("more", ["\n", " ", "<", f"<{D}", f'<{D}invoke name="'])
def test_what_is_held_back_is_bounded(start: str, more: str):
    reading = Reading(MARKS, thinking=False)
    given = [delta for piece in [start, *[more * 10] * 100] for delta in reading.add(piece)]
    said = "".join(delta.text for delta in given if not isinstance(delta, CallBegun))
    assert len(said) > len(more) * 1000 - 400
