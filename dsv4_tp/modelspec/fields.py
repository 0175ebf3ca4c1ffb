"""Typed access to a parsed JSON object: every miss is one error that names file, key and value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from dsv4_tp.errors import ModelError


@dataclass(frozen=True, slots=True)
class Fields:
    """The keys of one JSON object; `where` is the file and, for a nested object, the path."""

    data: Mapping[str, Any]
    where: str

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def integer(self, key: str, *, least: int = 1) -> int:
        """The integer at `key`, at least `least`."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, "an integer")
        if value < least:
            raise self.wrong(key, f"at least {least}")
        return value

    def number(self, key: str) -> float:
        """The non-negative number at `key`."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise self.wrong(key, "a number, zero or more")
        return float(value)

    def flag(self, key: str) -> bool:
        """The true or false at `key`."""
        value = self._get(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def choice(self, key: str, options: tuple[str, ...]) -> str:
        """The string at `key`, one of `options`."""
        value = self._get(key)
        if value not in options:
            raise self.wrong(key, "one of " + ", ".join(options))
        return str(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """The list of integers at `key`."""
        value = self._get(key)
        items = cast(list[object], value) if isinstance(value, list) else [None]
        integers = tuple(item for item in items if type(item) is int)
        if len(integers) < len(items):
            raise self.wrong(key, "a list of integers")
        return integers

    def strings(self, key: str) -> tuple[str, ...]:
        """The list of strings at `key`."""
        value = self._get(key)
        items = cast(list[object], value) if isinstance(value, list) else [None]
        strings = tuple(item for item in items if isinstance(item, str))
        if len(strings) < len(items):
            raise self.wrong(key, "a list of strings")
        return strings

    def section(self, key: str) -> "Fields":
        """The object at `key`."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "an object")
        return Fields(cast(dict[str, object], value), f"{self.where}: {key}")

    def wrong(self, key: str, expected: str) -> ModelError:
        """The error for a value that is there but is not `expected`."""
        return ModelError(
            f"{self.where}: {key} is {self.data.get(key)!r}, expected {expected}; "
            "take config.json from the model's own repository"
        )

    def _get(self, key: str) -> object:
        if key not in self:
            raise ModelError(f"{self.where}: {key} is missing; a DeepSeek-V4 config.json states it")
        return self.data[key]
