"""Which layout a checkpoint has, told by the names in its files and by nothing else.

Names are compared as forms, with a `#` for each number between dots, of which even the largest
model has few.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache

from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts.headers import Entry
from dsv4_tp.layouts.names import BIASES, NATIVE_SCALE, SCALES, WEIGHT, Reading, filled, row_of
from dsv4_tp.layouts.tables import FOREIGN, LAYOUTS, Layout
from dsv4_tp.modelspec import ModelSpec, contract

_NUMBER = re.compile(r"\.\d+(?=\.|$)")

# Which row of a layout, and which of its names, a form belongs to.
Forms = Mapping[str, tuple[int, int]]


def detect(spec: ModelSpec, entries: Mapping[str, Entry], place: str) -> Reading:
    """The layout that has most of the names, and which spellings of it they use.

    Raises:
        CheckpointError: names of two layouts, or two spellings of one, are mixed; a family that is
            not supported. `place` is where the files are.
    """
    met: dict[str, Entry] = {}
    for name, entry in entries.items():
        met.setdefault(_form(name), entry)
    paths = {_form(tensor.name): tensor.name for tensor in contract(spec, mtp=True)}
    forms = {layout.name: _forms(layout, tuple(paths.values())) for layout in LAYOUTS}
    layout = max(LAYOUTS, key=lambda layout: len(met.keys() & forms[layout.name].keys()))
    own = forms[layout.name]
    _check_foreign(met, own, place)
    for other in LAYOUTS:
        _check_mixed(met, layout, other, forms, place)
    return Reading(layout, _chosen(layout, own, met, place))


def _form(name: str) -> str:
    return _NUMBER.sub(".#", name)


@cache
def _forms(layout: Layout, paths: tuple[str, ...]) -> Forms:
    """The forms of all names that a layout may have for these tensors."""
    forms: dict[str, tuple[int, int]] = {}
    for path in paths:
        found = row_of(layout, path)
        if found is None:
            continue
        number, fields = found
        for spelling, form in enumerate(layout.rows[number].names):
            name = _form(filled(form, fields))
            base = name.removesuffix(WEIGHT)
            for whole in (name, *(base + suffix for suffix in (NATIVE_SCALE, SCALES, BIASES))):
                forms.setdefault(whole, (number, spelling))
    return forms


def _check_foreign(met: Mapping[str, Entry], own: Forms, place: str) -> None:
    for form in met.keys() - own.keys():
        for pattern, family in FOREIGN:
            if fnmatchcase(form, pattern):
                raise CheckpointError(
                    f"{place}: {met[form]} shows {family}, a layout that is not supported; "
                    "use DeepSeek's own files or a conversion by MLX"
                )


def _check_mixed(
    met: Mapping[str, Entry], layout: Layout, other: Layout, forms: Mapping[str, Forms], place: str
) -> None:
    """Refuse names that only the other layout knows."""
    own, others = forms[layout.name], forms[other.name]
    strangers = [entry for form, entry in met.items() if form in others and form not in own]
    natives = [entry for form, entry in met.items() if form in own and form not in others]
    if strangers and natives:
        raise CheckpointError(
            f"{place}: two layouts are mixed: {natives[0]} is one of {layout.name}, {strangers[0]} "
            f"one of {other.name}; keep the files of one of them"
        )


def _chosen(layout: Layout, own: Forms, met: Mapping[str, Entry], place: str) -> tuple[int, ...]:
    """For each row the one of its names that is used; the first where none is."""
    used: dict[int, dict[int, Entry]] = {}
    for form, entry in met.items():
        if form in own:
            number, spelling = own[form]
            used.setdefault(number, {}).setdefault(spelling, entry)
    for spellings in used.values():
        if len(spellings) > 1:
            one, other, *_ = spellings.values()
            raise CheckpointError(
                f"{place}: two layouts are mixed: {one} and {other} are two ways to store the same "
                "kind of tensor; keep the files of one of them"
            )
    return tuple(next(iter(used.get(number, (0,)))) for number in range(len(layout.rows)))
