"""Typed access to a YAML file: every miss is one error that names file, line, path and value.

It works on PyYAML's nodes, since plain dictionaries have lost lines and repeated keys.
"""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TypeGuard, TypeVar, cast

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dsv4_tp.errors import ConfigError

_Choice = TypeVar("_Choice", bound=StrEnum)
_PLAIN = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null"))


@dataclass(frozen=True, slots=True)
class Section:
    """One mapping of the file. An absent key reads as None; a key without a value is an error."""

    file: Path
    path: str  # of keys from the top, e.g. "hosts[1]"
    line: int  # from 1
    values: Mapping[str, Node]
    lines: Mapping[str, int]  # of the keys in `values`

    def only(self, keys: Iterable[str]) -> None:
        """Refuse every key that is not one of `keys`."""
        known = list(keys)
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
                raise self._error(key, f"unknown key ({hint})")

    def text(self, key: str) -> str | None:
        """The string at `key`, not empty."""
        value = self._scalar(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self.wrong(key, "text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """The strings in the list at `key`, none of them empty; () if absent."""
        node = self.values.get(key)
        if node is None:
            return ()
        items = cast(list[object], _plain(node)) if isinstance(node, SequenceNode) else [None]
        texts = tuple(item for item in items if isinstance(item, str) and item)
        if len(texts) < len(items):
            raise self.wrong(key, "a list of texts")
        return texts

    def integer(self, key: str, *, least: int = 1, most: int | None = None) -> int | None:
        """The integer at `key`, from `least` to `most`."""
        value = self._scalar(key)
        expected = f"an integer from {least} to {most}" if most else f"an integer, {least} or more"
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise self.wrong(key, expected)
        if most and value > most:
            raise self.wrong(key, expected)
        return value

    def seconds(self, key: str) -> float | None:
        """The positive number of seconds at `key`."""
        value = self._scalar(key)
        if value is None:
            return None
        if not _is_positive(value):
            raise self.wrong(key, "a number of seconds above 0")
        return float(value)

    def growing_seconds(self, key: str) -> tuple[float, float] | None:
        """The two positive numbers of seconds at `key`, the second not smaller."""
        node = self.values.get(key)
        if node is None:
            return None
        items = cast(list[Node], node.value) if isinstance(node, SequenceNode) else []
        times = [_value(item) if isinstance(item, ScalarNode) else None for item in items]
        least, most = times if len(times) == 2 else (None, None)
        if not (_is_positive(least) and _is_positive(most) and least <= most):
            raise self.wrong(key, "two numbers of seconds above 0, such as [1, 30]")
        return float(least), float(most)

    def not_negative(self, key: str) -> float | None:
        """The number at `key`, 0 or more."""
        value = self._scalar(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, "a number, 0 or more")
        if not 0 <= value < math.inf:
            raise self.wrong(key, "a number, 0 or more")
        return float(value)

    def flag(self, key: str) -> bool | None:
        """The truth at `key`."""
        value = self._scalar(key)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, options: type[_Choice]) -> _Choice | None:
        """The member of `options` named at `key`."""
        value = self._scalar(key)
        if value is not None and value not in list(options):
            raise self.wrong(key, "one of " + ", ".join(options))
        return None if value is None else options(value)

    def plain(self, key: str) -> object:
        """The scalar at `key`, or the list of scalars and such lists, as Python reads it."""
        node = self.values.get(key)
        return None if node is None else _plain(node)

    def section(self, key: str) -> "Section":
        """The mapping at `key`; an empty one if absent."""
        node = self.values.get(key)
        if node is None:
            return Section(self.file, self._at(key), self.line, {}, {})
        return _section(self.file, self._at(key), node)

    def sections(self, key: str) -> tuple["Section", ...]:
        """The list of mappings at `key`; empty if absent."""
        node = self.values.get(key)
        if node is None:
            return ()
        if not isinstance(node, SequenceNode):
            raise self.wrong(key, "a list")
        items = enumerate(node.value)
        return tuple(_section(self.file, f"{self._at(key)}[{i}]", item) for i, item in items)

    def missing(self, key: str, advice: str) -> ConfigError:
        """The error for a key that must be there."""
        return ConfigError(f"{self.file}:{self.line}: {self._at(key)}: missing; {advice}")

    def wrong(self, key: str, expected: str) -> ConfigError:
        """The error for a value that is there but is not `expected`."""
        return self._error(key, f"{_shown(self.values[key])}; expected {expected}")

    def _scalar(self, key: str) -> object:
        node = self.values.get(key)
        if node is None:
            return None
        value = _value(node) if isinstance(node, ScalarNode) else None
        # YAML reads a lone `key:` as null, which must not become a silent default.
        if value is None:
            raise self.wrong(key, "one value")
        return value

    def _at(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def _error(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.file}:{self.lines[key]}: {self._at(key)}: {message}")


def read_yaml(file: Path) -> Section:
    """The top mapping of `file`.

    Raises:
        ConfigError: it cannot be read, is not YAML, holds no mapping, or repeats a key.
    """
    try:
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}:{line}: not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not YAML: {error}") from error
    if node is None:
        raise ConfigError(f"{file}: empty; it starts with `version: 1`")
    return _section(file, "", node)


def _section(file: Path, path: str, node: Node) -> Section:
    if not isinstance(node, MappingNode):
        name = path or "the file"
        raise ConfigError(f"{file}:{_line(node)}: {name}: {_shown(node)}; expected `key: value`")
    values: dict[str, Node] = {}
    lines: dict[str, int] = {}
    for key, value in cast(list[tuple[Node, Node]], node.value):
        name, line = str(key.value), _line(key)
        if name in values:
            at = f"{path}.{name}" if path else name
            raise ConfigError(f"{file}:{line}: {at}: set twice, first in line {lines[name]}")
        values[name], lines[name] = value, line
    return Section(file, path, _line(node), values, lines)


def _is_positive(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _line(node: Node) -> int:
    return node.start_mark.line + 1


def _value(node: ScalarNode) -> object:
    """The scalar as Python reads it; as text if its tag is not one of a plain value."""
    if node.tag not in _PLAIN:
        return str(node.value)
    try:
        return SafeConstructor().construct_object(node)
    except ValueError:  # such as `!!int x`
        return str(node.value)


def _plain(node: Node) -> object:
    """A mapping reads as an empty one: nobody wants it."""
    if isinstance(node, SequenceNode):
        return [_plain(item) for item in cast(list[Node], node.value)]
    return _value(node) if isinstance(node, ScalarNode) else {}


def _shown(node: Node) -> str:
    if isinstance(node, ScalarNode):
        value = _value(node)
        return "empty" if value is None else repr(value)
    return "a list" if isinstance(node, SequenceNode) else "a mapping"
