"""What is looked for in the model's text: whole tags, and what may be the beginning of one.

A tag is a row of atoms: patterns of which every beginning is a match as well, or nothing at all.
So the pattern of all its beginnings follows from it. In one place no tag is the beginning of
another: what has been found stays found, whatever comes after it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

# The bounds are far above what is meant as a tag. They bound what is held back.
_BLANKS = r"\s{0,64}+"  # no character that may follow is one of them
_FEW = r"\s{0,8}"
_SOME = r"\s{1,8}"
_FUNCTION = r'[^"<>\n]{1,256}'
# A key may have quotes and angles in it: the tag ends with the first angle that is behind a quote.
_KEY = r'(?P<key>[^\n]{0,256}?)"(?:\s{1,8}string="(?P<string>[^"<>\n]{0,32})")?\s{0,8}>'
_KEY_SO_FAR = r"[^\n]{0,330}"
_WORD = "[a-z_]{0,32}"
_NO_PARAMETER = "(?!p)[a-z_]{1,32}"


@dataclass(frozen=True, slots=True)
class Place:
    """What ends the text of one place; the group that matches is named after the kind of tag."""

    coming: re.Pattern[str]  # while more may come; group `begun`: it must, before this is known
    over: re.Pattern[str]  # when no more comes


@dataclass(frozen=True, slots=True)
class Places:
    """Where the model's text can be, and the kinds of tag that are looked for there."""

    reasoning: Place  # think_end
    content: Place  # invoke
    call: Place  # invoke, parameter (with its key and `string`), close (with its word)
    value: Place  # value_end, call_end
    between: Place  # invoke, close


@dataclass(frozen=True, slots=True)
class _Tag:
    kind: str
    whole: str
    begun: str  # what matches and is no beginning is held back for longer, and not lost
    over: str = ""  # what passes for it where the text ends, if not the same


@lru_cache(maxsize=4)
def places(think_end: str, dsml: str) -> Places:
    """The patterns for these two tokens."""
    end = _letters(think_end)
    invoke, close = _invoke(dsml), _closing("close", f"(?P<word>{_WORD})", dsml)
    value_end = _closing("value_end", "(?:p[a-z_]{0,31})?", dsml)
    return Places(
        reasoning=_place("", [_Tag("think_end", "".join(end), _begun(end))]),
        content=_place(r"\n{0,2}", [_first_invoke(dsml)]),
        call=_place(_BLANKS, [invoke, _parameter(dsml), close]),
        value=_place("", [value_end, _call_end(dsml)]),
        between=_place(_BLANKS, [invoke, close]),
    )


def function_name(invoke: str) -> str:
    """The name in a tag of that kind."""
    return invoke.rsplit('"', 2)[1]


def _place(lead: str, tags: Sequence[_Tag]) -> Place:
    whole = [f"(?P<{tag.kind}>{tag.whole})" for tag in tags if tag.whole]
    begun = rf"(?P<begun>{_either([tag.begun for tag in tags])}\Z)"
    over = [f"(?P<{tag.kind}>{tag.over or tag.whole})" for tag in tags]
    return Place(
        coming=re.compile(lead + _either([*whole, begun])),
        over=re.compile(lead + _either(over)),
    )


def _block(dsml: str) -> list[str]:
    """The tag before the first call. It is found misspelt, so any name will do."""
    return [*_letters("<" + dsml), "[a-z_]{1,32}", _FEW, ">", _BLANKS]


def _named(tag: str, dsml: str) -> list[str]:
    return [*_letters(f"<{dsml}{tag}"), _SOME, *_letters('name="')]


def _call(dsml: str) -> list[str]:
    return [*_named("invoke", dsml), _FUNCTION, '"', _FEW, ">"]


def _invoke(dsml: str) -> _Tag:
    """A call's opening tag, behind that of a block or not."""
    block, call = _block(dsml), _call(dsml)
    whole = f"(?:{''.join(block)})?{''.join(call)}"
    return _Tag("invoke", whole, _either([_begun(block + call), _begun(call)]))


def _first_invoke(dsml: str) -> _Tag:
    """The same in content, where one without a block must go on like a call, or it is prose."""
    block, call = _block(dsml), _call(dsml)
    ahead = [_BLANKS, "<", "/?", *_letters(dsml)]
    whole = f"(?P<block>{''.join(block)})?{''.join(call)}(?(block)|(?={''.join(ahead)}))"
    return _Tag("invoke", whole, _either([_begun(block + call), _begun(call + ahead)]))


def _parameter(dsml: str) -> _Tag:
    named = _named("parameter", dsml)
    return _Tag("parameter", "".join(named) + _KEY, _begun([*named, _KEY_SO_FAR]))


def _closing(kind: str, word: str, dsml: str) -> _Tag:
    """A closing tag; where its angle is missing, another character that is not of it ends it."""
    tag = _letters("</" + dsml)
    whole = "".join(tag) + word
    return _Tag(
        kind,
        whole=f"{whole}(?:>|(?=[^a-z_>]))",
        begun=_begun([*tag, _WORD]),
        over=f"{whole}(?:>|(?![a-z_>]))",
    )


def _call_end(dsml: str) -> _Tag:
    """What follows a value whose own closing tag is missing; such a text can end so, only."""
    tag = [*_letters("</" + dsml), _NO_PARAMETER, ">?", _BLANKS]
    once = "".join(tag)
    return _Tag(
        "call_end", whole="", begun=_begun(["\n?", *tag, *tag]), over=rf"\n?{once}(?:{once})?\Z"
    )


def _letters(text: str) -> list[str]:
    return [re.escape(letter) for letter in text]


def _begun(atoms: Sequence[str]) -> str:
    """Matches nothing, the first atom, the first two, and so on."""
    rest = ""
    for atom in reversed(atoms):
        rest = f"(?:{atom}{rest})?"
    return rest


def _either(patterns: Sequence[str]) -> str:
    return f"(?:{'|'.join(patterns)})"
