"""The string constants of a Python file, without running it."""

import ast
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.errors import ModelError

_MOST_BYTES = 1 << 20  # DeepSeek's own is below 64 KB
_NEXT_STEP = "take the file as DeepSeek released it"


@dataclass(frozen=True, slots=True)
class _Odd:
    """A value that is not made of string literals."""

    found: str


_Value = str | dict[str, str] | _Odd


class Constants:
    """What a file's module level assigns: texts, and dicts of texts, made of literals.

    A literal may be concatenated with others and with names that were assigned before. Functions,
    imports and the like are skipped.
    """

    def __init__(self, file: Path) -> None:
        """Raises ModelError: the file is missing, too large, not UTF-8 or not Python."""
        self._file = file
        self._values: dict[str, _Value] = {}
        try:
            for statement in _parse(_read(file)):
                self._take(statement)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            found = str(error) or type(error).__name__
            raise ModelError(f"{file}: not a Python file: {found}; {_NEXT_STEP}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str:
        """The string `name`.

        Raises:
            ModelError: it is missing or something else.
        """
        value = self._values.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string of literals", _found(value))
        return value

    def texts(self, name: str) -> dict[str, str]:
        """The dict of strings `name`.

        Raises:
            ModelError: it is missing or something else.
        """
        value = self._values.get(name)
        if not isinstance(value, dict):
            raise self.wrong(name, "a dict of string literals", _found(value))
        return value

    def wrong(self, name: str, expected: str, found: str) -> ModelError:
        """The error that `name` has another form than expected."""
        return ModelError(f"{self._file}: {name}: expected {expected}, found {found}; {_NEXT_STEP}")

    def _take(self, statement: ast.stmt) -> None:
        match statement:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                return
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=node)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as node)
            ):
                self._values[name] = _value(node, self._values)
            case _:
                # What is assigned in another way is not known, even if it was before.
                self._values |= dict.fromkeys(_bound(statement), _odd(statement))


def _read(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}; {_NEXT_STEP}") from error
    if len(data) > _MOST_BYTES:
        raise ModelError(f"{file}: larger than {_MOST_BYTES} bytes; {_NEXT_STEP}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ModelError(f"{file}: not UTF-8: {error}; {_NEXT_STEP}") from error


def _parse(source: str) -> list[ast.stmt]:
    with warnings.catch_warnings():  # of the file's own code, which is not run
        warnings.simplefilter("ignore")
        return ast.parse(source).body


def _value(node: ast.expr, known: dict[str, _Value]) -> _Value:
    match node:
        case ast.Constant(value=str(text)) if _is_unicode(text):
            return text
        case ast.Name(id=name) if name in known:
            return known[name]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _sum(node, _value(left, known), _value(right, known))
        case ast.Dict(keys=keys, values=values):
            pairs = [(key and _value(key, known)) for key in keys]
            return _dict(node, pairs, [_value(value, known) for value in values])
        case _:
            return _odd(node)


def _sum(node: ast.expr, left: _Value, right: _Value) -> _Value:
    for part in (left, right):
        if isinstance(part, _Odd):
            return part
    # Names may be doubled again and again.
    if isinstance(left, str) and isinstance(right, str) and len(left + right) <= _MOST_BYTES:
        return left + right
    return _odd(node)


def _dict(node: ast.expr, keys: list[_Value | None], values: list[_Value]) -> _Value:
    texts: dict[str, str] = {}
    for key, value in zip(keys, values, strict=True):
        if not isinstance(key, str) or not isinstance(value, str):
            return next((part for part in (key, value) if isinstance(part, _Odd)), _odd(node))
        texts[key] = value
    return texts


def _bound(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id


def _odd(node: ast.stmt | ast.expr) -> _Odd:
    words = " ".join(ast.unparse(node).split())
    shown = words if len(words) <= 60 else words[:57] + "..."
    return _Odd(f"{shown} in line {node.lineno}")


def _found(value: _Value | None) -> str:
    match value:
        case None:
            return "nothing"
        case _Odd(found):
            return found
        case str():
            return "a string"
        case dict():
            return "a dict"


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
