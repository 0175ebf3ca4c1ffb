"""How the values that a schema allows are written in a parameter, as a grammar.

Strings are written as they are, all else as JSON. A string that has to obey more than its type and
a list of values is written as JSON as well, for that the library holds to any schema.
"""

import json
from collections.abc import Iterator
from typing import Any, cast

from dsv4_tp.errors import RequestError

NOTES = frozenset({"title", "description", "default", "examples", "deprecated", "$comment"})
DEFINITIONS = ("$defs", "definitions")
# JSON as conversations have it, with one way to write each string (decision 0018).
_FORM = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'bfnrt"\\\\',
}
_BEYOND_TYPE = frozenset(
    {"pattern", "minLength", "maxLength", "format", "enum", "const", "not", "if"}
    | {"allOf", "anyOf", "oneOf", "$ref", "$dynamicRef"}
)
_TYPES = ["string", "null", "boolean", "number", "object", "array"]
_MOST_REFERENCES = 8

Object = dict[str, Any]


def spellings(schema: Any, root: Object) -> list[str]:
    """Each way to go on behind `string="`, up to the closing tag; `root` has the definitions.

    Raises:
        RequestError: it is no schema.
    """
    return list(_spellings(schema, root, choices=True))


def whole(json_schema: str) -> str:
    """A text by this schema and nothing else.

    Raises:
        RequestError: it is no object of JSON.
    """
    try:
        found = as_object(json.loads(json_schema), "a schema")
    except (ValueError, RecursionError) as error:
        raise RequestError(f"json_schema: it is not JSON: {error}") from error
    return f"%json {json.dumps(found | {'x-guidance': _FORM}, ensure_ascii=False)}"


def as_object(found: Any, what: str) -> Object:
    """The same, if it is an object of JSON.

    Raises:
        RequestError: it is not.
    """
    if isinstance(found, dict):
        return cast(Object, found)
    raise RequestError(f"{what} is a JSON object; this is {json.dumps(found)[:20]}")


def quoted(text: str) -> str:
    """The text in a grammar."""
    return json.dumps(text, ensure_ascii=False)


def _spellings(schema: Any, root: Object, *, choices: bool) -> Iterator[str]:
    said = _target(schema, root)
    if choices and set(said) == {"anyOf"} and isinstance(said["anyOf"], list):
        # Not on: definitions that choose among each other can be without number.
        for choice in cast(list[Any], said["anyOf"]):
            yield from _spellings(choice, root, choices=False)
    elif {"enum", "const"} & set(said) and len(set(said) - {"type"}) == 1:
        yield from _listed(said, root)
    elif "string" in _types(said) and not _BEYOND_TYPE & set(said):
        yield _text("raw")
        if others := [kind for kind in _types(said) if kind != "string"]:
            yield _json(said | {"type": others}, root)
    else:
        yield _json(said, root)


def _listed(said: Object, root: Object) -> Iterator[str]:
    """Of values that are given one by one; a text with the beginning of a tag in it is JSON."""
    values = said["enum"] if "enum" in said else [said["const"]]
    if not isinstance(values, list):
        raise RequestError(f"enum is a list; this is {json.dumps(values)[:20]}")
    types = _types(said)
    texts: list[str] = []
    others: list[Any] = []
    for value in cast(list[Any], values):
        if isinstance(value, str) and "string" in types and "<" not in value:
            texts.append(value)
        elif isinstance(value, str) or types != ["string"]:
            others.append(value)
    if texts:
        yield _text(f"({' | '.join(map(quoted, texts))})")
    if others or not texts:
        yield _json(said | {"enum": others}, root)


def _target(schema: Any, root: Object) -> Object:
    """What is said of a value, here or where this refers to and says no more."""
    for _ in range(_MOST_REFERENCES):
        schema = _referred(schema, root)
    if schema is True:
        return {}
    return {key: it for key, it in as_object(schema, "a schema").items() if key not in NOTES}


def _referred(schema: Any, root: Object) -> Any:
    """One step of that; the schema itself if there is none."""
    if not isinstance(schema, dict) or set(cast(Object, schema)) - NOTES != {"$ref"}:
        return cast(Any, schema)
    place = str(cast(Object, schema)["$ref"]).split("/")
    group = root.get(place[1]) if len(place) == 3 and place[1] in DEFINITIONS else None
    return cast(Any, group).get(place[2], schema) if isinstance(group, dict) else cast(Any, schema)


def _types(said: Object) -> list[str]:
    """The types that a value may have."""
    types = said.get("type", _TYPES)
    return cast(list[str], types) if isinstance(types, list) else [str(types)]


def _text(grammar: str) -> str:
    return rf'"true\">" {grammar}'


def _json(schema: Object, root: Object) -> str:
    referring = '"$ref"' in json.dumps(schema)
    defined = {name: root[name] for name in DEFINITIONS if name in root and referring}
    whole = schema | defined | {"x-guidance": _FORM}
    return rf'"false\">" %json {json.dumps(whole, ensure_ascii=False)}'
