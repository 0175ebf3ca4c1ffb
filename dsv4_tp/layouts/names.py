"""The names a layout's table gives to the tensors of our model."""

import re
from dataclasses import dataclass
from functools import cache

from dsv4_tp.layouts.formats import FORMATS
from dsv4_tp.layouts.tables import FIELDS, Layout
from dsv4_tp.modelspec import Tensor


@dataclass(frozen=True, slots=True)
class FileNames:
    """The names in the files of one tensor's weights and scales; of each expert where stacked."""

    weights: tuple[str, ...]
    scales: tuple[str, ...]  # empty unless quantised

    @property
    def all(self) -> tuple[str, ...]:
        """Weights, then scales."""
        return self.weights + self.scales


def file_names(layout: Layout, tensor: Tensor) -> FileNames:
    """Under which names `layout` stores a tensor of our model."""
    name = _released(layout, tensor.name)
    weights = (name,)
    if "{expert}" in name:
        weights = tuple(name.format(expert=expert) for expert in range(tensor.shape[0]))
    if not FORMATS[tensor.stored].quantised:
        return FileNames(weights, ())
    scales = (weight.removesuffix(".weight") + layout.scale_suffix for weight in weights)
    return FileNames(weights, tuple(scales))


def _released(layout: Layout, path: str) -> str:
    """The name of the tensor at `path` by the first row that fits; `{expert}` stays open."""
    for row in layout.rows:
        found = _pattern(row.path).fullmatch(path)
        if found:
            return row.released.format(**found.groupdict(), expert="{expert}")
    raise AssertionError(f"{layout.name} has no row for {path}")


@cache
def _pattern(path: str) -> re.Pattern[str]:
    """The regular expression of a row's path."""
    text = re.escape(path).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(text.format(**{name: f"(?P<{name}>{what})" for name, what in FIELDS.items()}))
