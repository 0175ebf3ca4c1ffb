"""Grammars that hold an answer's calls to functions, and the arguments to the functions' schemas.

They are in llguidance's form of Lark. A checkpoint's own tokens stand in them by id: a text that
spells such a token with others is not the same to the model.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from dsv4_tp.errors import RequestError
from dsv4_tp.prompts.values import DEFINITIONS, NOTES, Object, as_object, quoted, spellings, whole

# What can be told from the rest of its tag.
_NAME = re.compile(r'[^"<>\n]{1,256}')
_KEY = re.compile(r'(?!.*"\s*>)(?!.*"\s+string=")[^\n]{0,256}')
# Whatever else a schema says of the arguments as a whole would have to be held to.
_HELD = {"type", "properties", "required", "additionalProperties", *DEFINITIONS}
_IGNORED = {*NOTES, "$schema", "$id", "strict"}
_MOST_CHARACTERS = 500_000  # definitions are in it once for each parameter that refers to any
# A string ends with `</` and the token, so it may not spell these two. Nor does it have `</` before
# `<` or at its end: that could not be told from its closing tag while it comes.
_TERMS = r"""
text: /(?s:.*)/
raw: (PLAIN | "<" | SLASHED)*
PLAIN: /[^<]+/
SLASHED: /<\/[^<｜]/
"""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What of a checkpoint's tokens and names calls are written with."""

    dsml: int
    block: str


def calls_grammar(
    functions: Sequence[str],
    tokens: Tokens,
    *,
    required: bool,
    single: bool,
    json_schema: str | None = None,
) -> str:
    """A grammar of answers that call these functions; only one of them, once, if `single`.

    Unless calls are `required` an answer may begin with any text, and end without a call; with a
    `json_schema` it is either calls or a text by that. Each function is a JSON object. Required
    parameters are there, others may be, in the order of the schema, and there are none besides.
    The library has not checked the schemas yet.

    Raises:
        RequestError: there is no function, or one has a name or a schema that cannot be held to,
            or they are too many.
    """
    if not functions:
        raise RequestError("tools: there is none, and a call of one is asked for")
    mark, block = f"<[{tokens.dsml}]>", quoted(f"{tokens.block}>")
    rules = [_function(f"f{n}", function, mark) for n, function in enumerate(functions)]
    more = "" if single else '("\\n" call)* '
    lines = [
        "%llguidance {}",
        f"start: {_answer(json_schema, required=required)}",
        rf'calls: {mark} {block} "\n" call {more}"\n" "</" {mark} {block}',
        f'call: "<" {mark} ({" | ".join(f"f{n}" for n in range(len(functions)))})',
    ]
    grammar = "\n".join([*lines, *rules]) + _TERMS
    if len(grammar) > _MOST_CHARACTERS:
        most = f"{_MOST_CHARACTERS:,}"
        raise RequestError(f"tools: a grammar of them is more than {most} characters; offer fewer")
    return grammar


def _answer(json_schema: str | None, *, required: bool) -> str:
    """What is before calls, and instead of them."""
    only = r'"\n\n<" calls'
    if required:
        return only
    return "text calls?" if json_schema is None else f"{only} | {whole(json_schema)}"


def _function(rule: str, function: str, mark: str) -> str:
    """The rules of a call of this function, behind `<` and the token."""
    try:
        found = as_object(json.loads(function), "a function")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"tools: a function is not JSON: {error}") from error
    name = found.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise RequestError(f"tools: {name!r} is no name of a function")
    try:
        uses, rules = _parameters(rule, found.get("parameters") or {}, mark)
    except RequestError as error:
        raise RequestError(f"tools: parameters of {name!r}: {error}") from error
    tag = quoted(f'invoke name="{name}">')
    call = rf'{rule}: {tag} "\n" ({uses}) "</" {mark} "invoke>"'
    return "\n".join([call, *rules])


def _parameters(rule: str, schema: Any, mark: str) -> tuple[str, list[str]]:
    """How the rules of the parameters follow each other, and these rules."""
    root = _checked(schema)
    properties = as_object(root.get("properties", {}), "properties")
    required: list[Any] = root.get("required", [])
    schemas: Object = properties | {key: True for key in required if key not in properties}
    names = [f"{rule}p{n}" for n in range(len(schemas))]
    uses = [name + "?" * (key not in required) for name, key in zip(names, schemas, strict=True)]
    rules = [
        f"{name}: {_parameter(key, schemas[key], root, mark)}"
        for name, key in zip(names, schemas, strict=True)
    ]
    some = [" ".join(uses)] if uses else []
    none = [] if required else [r'"\n"']  # an empty line is how a call without them is written
    return " | ".join(some + none), rules


def _checked(schema: Any) -> Object:
    """The schema of all arguments together, which says nothing that is not held to here."""
    root = as_object(schema, "a schema")
    if more := sorted(set(root) - _HELD - _IGNORED):
        raise RequestError(f"{', '.join(more)} cannot be held to; leave it out")
    if root.get("type", "object") != "object":
        raise RequestError(f'type must be "object"; it is {json.dumps(root["type"])[:20]}')
    if not isinstance(root.get("required", []), list):
        raise RequestError("required must be a list of names")
    for place in _references(root):
        # A value's schema is compiled by itself, with the definitions, and nothing else above it.
        if not place.startswith(tuple(f"#/{name}/" for name in DEFINITIONS)):
            raise RequestError(f"$ref {place[:50]!r} must be to #/$defs/")
    return root


def _references(root: Object) -> list[str]:
    """What a schema refers to, anywhere in it."""
    found: list[str] = []
    rest: list[Any] = [root]
    while rest:
        place = rest.pop()
        if isinstance(place, dict):
            entry = cast(Object, place)
            found += [entry["$ref"]] if isinstance(entry.get("$ref"), str) else []
            rest += entry.values()
        elif isinstance(place, list):
            rest += cast(list[Any], place)
    return found


def _parameter(key: str, schema: Any, root: Object, mark: str) -> str:
    if not _KEY.fullmatch(key):
        raise RequestError(f"{key!r} is no name of a parameter")
    tag = quoted(f'parameter name="{key}" string="')
    values = " | ".join(spellings(schema, root))
    return rf'"<" {mark} {tag} ({values}) "</" {mark} "parameter>" "\n"'
