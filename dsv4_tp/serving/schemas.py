"""JSON schemas that clients send: whether they are any, and small enough to be looked at."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from dsv4_tp.errors import RequestError

_MOST_DEPTH = 64  # the library calls itself for each
_MOST_VALUES = 10_000  # in all schemas of a request; looking at them takes a second


def check_schemas(schemas: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises RequestError, which names the place, for what is no schema; by their places."""
    values = 0
    for at, schema in schemas.items():
        for value, depth in _walk(schema):
            values += 1
            _check_value(value, depth, values, at)
    for at, schema in schemas.items():
        _check_schema(schema, at)


def _walk(schema: Any) -> Iterator[tuple[Any, int]]:
    """All values in it, each with how deep it lies."""
    rest = [(schema, 1)]
    while rest:
        value, depth = rest.pop()
        yield value, depth
        if isinstance(value, Mapping):
            rest += [(each, depth + 1) for each in cast(Mapping[str, Any], value).values()]
        elif isinstance(value, list):
            rest += [(each, depth + 1) for each in cast(Sequence[Any], value)]


def _check_value(value: Any, depth: int, values: int, at: str) -> None:
    if depth > _MOST_DEPTH:
        raise RequestError(f"{at}: it is more than {_MOST_DEPTH} levels deep; make it simpler")
    if values > _MOST_VALUES:
        raise RequestError(f"{at}: with it there are more than {_MOST_VALUES:,} values; say less")
    if isinstance(value, float) and not isfinite(value):
        raise RequestError(f"{at}: {value} is no number of JSON")


def _check_schema(schema: Mapping[str, Any], at: str) -> None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = "".join(f".{each}" for each in error.absolute_path)
        raise RequestError(f"{at}{where}: no JSON schema: {error.message}") from error
