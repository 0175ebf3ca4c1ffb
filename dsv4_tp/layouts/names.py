"""The names a layout's table gives to the tensors of our model."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from dsv4_tp.layouts.tables import FIELDS, PROJECTIONS, Layout, Row
from dsv4_tp.modelspec import ModelSpec, Tensor

WEIGHT = ".weight"
NATIVE_SCALE, SCALES, BIASES = ".scale", ".scales", ".biases"


@dataclass(frozen=True, slots=True)
class FileNames:
    """Where one tensor's weights are: the names, and how they make up the whole."""

    weights: tuple[str, ...]  # one, or one for each expert or output group
    part: tuple[int, int] = (0, 1)  # as in tables.Row

    def beside(self, suffix: str) -> tuple[str, ...]:
        """The names of what is stored beside the weights, such as scales."""
        return tuple(name.removesuffix(WEIGHT) + suffix for name in self.weights)


@dataclass(frozen=True, slots=True)
class Reading:
    """A layout, and which of its rows' names a checkpoint uses: `chosen` by the number of a row."""

    layout: Layout
    chosen: tuple[int, ...]

    def names(self, tensor: Tensor, spec: ModelSpec) -> FileNames | None:
        """Under which names the files hold a tensor of our model; None where they cannot."""
        found = row_of(self.layout, tensor.name)
        if found is None:
            return None
        number, fields = found
        row = self.layout.rows[number]
        form = row.names[self.chosen[number]]
        return FileNames(tuple(_expanded(form, fields, tensor, spec)), row.part)


def row_of(layout: Layout, path: str) -> tuple[int, dict[str, str]] | None:
    """The number of the first row that fits a path, and what its fields stand for."""
    for number, row in enumerate(layout.rows):
        found = _pattern(row.path).fullmatch(path)
        if found:
            fields = found.groupdict()
            return number, fields | {"proj": PROJECTIONS.get(fields.get("w", ""), "")}
    return None


def filled(form: str, fields: dict[str, str]) -> str:
    """A row's name for one tensor, with `#` for the numbers of experts and groups."""
    return form.format(**fields, expert="#", group="#")


def all_readings(layout: Layout) -> Iterator[Reading]:
    """Readings that have each name of each row in one of them."""
    for number in range(max(len(row.names) for row in layout.rows)):
        yield Reading(layout, tuple(min(number, _last(row)) for row in layout.rows))


def _last(row: Row) -> int:
    return len(row.names) - 1


def _expanded(form: str, fields: dict[str, str], tensor: Tensor, spec: ModelSpec) -> Iterator[str]:
    count = tensor.shape[0] if "{expert}" in form else spec.o_groups
    # Filled once, since a large model has a hundred thousand of these.
    before, mark, after = filled(form, fields).partition("#")
    if not mark:
        yield before
        return
    yield from (f"{before}{number}{after}" for number in range(count))


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """The regular expression of a row's path."""
    text = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(text.format(**{name: f"(?P<{name}>{what})" for name, what in FIELDS.items()}))
