"""From a JSON schema to the library's grammar, or the words that say why there is none."""

import json

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from dsv4_tp.errors import RequestError

FIELD = "json_schema"
MOST_CHARACTERS = 200_000
# Between signs. A model that has lost its way would else go on with blanks for ever.
_BLANKS = r" |\n[ \t]{0,20}"
# Without \u and \/ there is one way to write each string, so that no name can pass for another.
_ESCAPES = 'bfnrt"\\\\'
# Messages without them would carry the text that was made so far.
LIMITS = LLParserLimits(verbose_errors=False)
_PLAIN = {"NoExtensionBias": "no text of any length is valid"}


def check_schema(schema: str) -> None:
    """Whether texts can be held to the schema; needs no tokenizer.

    Raises:
        RequestError: it is not JSON, not a schema, impossible, or says what cannot be held to.
    """
    matcher = LLMatcher(LLTokenizer("byte"), grammar(schema), log_level=0, limits=LIMITS)
    matcher.compute_bitmask()  # some that no text can satisfy are only found here
    if matcher.is_error():
        raise refusal(matcher.get_error())


def grammar(schema: str) -> str:
    """The library's form of the schema, which it has not checked yet.

    Raises:
        RequestError: it is not JSON, or no object.
    """
    if len(schema) > MOST_CHARACTERS:
        raise refusal(f"it has {len(schema):,} characters; the most are {MOST_CHARACTERS:,}")
    try:
        found = json.loads(schema)
        if not isinstance(found, dict):
            raise refusal(f"a schema is a JSON object; this is {schema.strip()[:20]!r}")
        return LLMatcher.grammar_from_json_schema(
            schema,
            {"whitespace_pattern": _BLANKS, "json_allowed_escapes": _ESCAPES},
            {"lenient": False},
        )
    except (ValueError, RecursionError) as error:
        raise refusal(f"it is not JSON: {error}") from error


def refusal(words: str) -> RequestError:
    """The error of a schema, in the library's words."""
    plain = " ".join(words.replace("<non-verbose/>", "").split())
    return RequestError(f"{FIELD}: {_PLAIN.get(plain, plain)}")
