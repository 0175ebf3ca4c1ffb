"""From a form to the library's grammar, or the words that say why there is none."""

import json
import re
from collections import Counter
from typing import Any, cast

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from dsv4_tp.errors import RequestError

# What compiling takes grows faster than these; at the limits it is a quarter of a second.
MOST_CHARACTERS = 50_000
MOST = {"properties": 1000, "patterns": 100}
# Between signs. A model that has lost its way would else go on with blanks for ever.
_BLANKS = r" |\n[ \t]{0,20}"
# Without \u and \/ there is one way to write each string, so that no name can pass for another.
_ESCAPES = 'bfnrt"\\\\'
# Messages without them would carry the text that was made so far.
LIMITS = LLParserLimits(verbose_errors=False)
TOO_MUCH = "it is too much for the grammar library; make it simpler"
_LARK = "%llguidance"
_TOKEN = re.compile(r"<\[\d+\]>")
_BYTES = "<[255]>"  # which no text has
_MOST_WORDS = 500  # characters: some of its errors have the whole grammar in them
_PLAIN = {"NoExtensionBias": "no text of any length is valid"}


def compile_form(form: str) -> None:
    """What `check_form` asks, in this process and for as long as it takes.

    Raises:
        RequestError: it is not JSON, not a schema, impossible, or says what cannot be held to.
    """
    # Without a tokenizer there are no tokens that a grammar could name.
    bare = _TOKEN.sub(_BYTES, form) if _is_lark(form) else form
    matcher = LLMatcher(LLTokenizer("byte"), grammar(bare), log_level=0, limits=LIMITS)
    matcher.compute_bitmask()  # some that no text can satisfy are only found here
    if matcher.is_error():
        raise refusal(form, matcher.get_error())


def grammar(form: str) -> str:
    """The library's own form of it, which it has not checked yet.

    Raises:
        RequestError: a schema is not JSON, no object, or larger than may be.
    """
    if _is_lark(form):
        return LLMatcher.grammar_from_lark(form)
    _bound(form, "characters", len(form), MOST_CHARACTERS)
    try:
        found = json.loads(form)
        if not isinstance(found, dict):
            raise refusal(form, f"a schema is a JSON object; this is {form.strip()[:20]!r}")
        for what, number in _counts(found).items():
            _bound(form, what, number, MOST[what])
        return LLMatcher.grammar_from_json_schema(
            form,
            {"whitespace_pattern": _BLANKS, "json_allowed_escapes": _ESCAPES},
            {"lenient": False},
        )
    except (ValueError, RecursionError) as error:
        raise refusal(form, f"it is not JSON: {error}") from error


def refusal(form: str, words: str) -> RequestError:
    """The error of a form, in the library's words, and by the name that clients have for it."""
    plain = " ".join(words.replace("<non-verbose/>", "").split())
    if plain.startswith("panic"):  # goes on with a place in its source, and a backtrace
        plain = TOO_MUCH
    field = "tools" if _is_lark(form) else "json_schema"
    return RequestError(f"{field}: {_PLAIN.get(plain, plain)[:_MOST_WORDS]}")


def _is_lark(form: str) -> bool:
    return form.startswith(_LARK)


def _bound(form: str, what: str, number: int, most: int) -> None:
    if number > most:
        raise refusal(form, f"it has {number:,} {what}; the most are {most:,}")


def _counts(schema: Any) -> Counter[str]:
    """What is counted of a schema, wherever in it."""
    counts: Counter[str] = Counter()
    rest: list[Any] = [schema]
    while rest:
        place = rest.pop()
        if isinstance(place, dict):
            counts["properties"] += _size(place, "properties")
            counts["patterns"] += _size(place, "patternProperties") + _size(place, "pattern")
            rest += place.values()
        elif isinstance(place, list):
            rest += place
    return counts


def _size(place: Any, key: str) -> int:
    """How many there are behind a keyword."""
    found: Any = place.get(key)
    return len(cast(dict[str, Any], found)) if isinstance(found, dict) else isinstance(found, str)
