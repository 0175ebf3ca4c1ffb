"""`dsv4-tp inspect`: what a checkpoint is. Reads headers only and never imports MLX."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from dsv4_tp import demo
from dsv4_tp.cli.inspect_set import inspect_set
from dsv4_tp.cli.tables import gigabytes, note, table
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import Dropped, Entry, Source, Survey, read_headers, survey_of
from dsv4_tp.modelspec import read_spec
from dsv4_tp.prepared import is_set
from dsv4_tp.rules import rule_of


@dataclass(slots=True)
class _Class:
    """The tensors of one kind in one format, as they lie in the files."""

    kind: str
    form: str
    names: set[str] = field(default_factory=set[str])
    size_bytes: int = 0


def run(*, model: str, as_json: bool) -> None:
    """Print what the checkpoint holds; raises CheckpointError if it could not be loaded."""
    path = demo.model_dir(model)
    if is_set(path):
        inspect_set(path, as_json=as_json)
        return
    entries = read_headers(path)
    survey = survey_of(read_spec(path), entries)
    classes = _classes(survey)
    if as_json:
        print(json.dumps(_as_json(survey, entries, classes)))
    else:
        _print(survey, entries, classes)
    problems = tuple(survey.problems())
    if problems:
        raise CheckpointError(f"{survey.place}: {'; also '.join(problems)}")


def _classes(survey: Survey) -> tuple[_Class, ...]:
    """By the kinds of the sharding table, MTP stages apart, in the order of the model."""
    found: dict[tuple[str, str], _Class] = {}
    for source in survey.catalog.sources:
        key = _kind(source), _form(source)
        own = found.setdefault(key, _Class(*key))
        for entry in (*source.weights, *source.scales, *source.biases):
            own.names.add(entry.name)
            own.size_bytes += entry.nbytes
    kinds = list(dict.fromkeys(own.kind for own in found.values()))
    return tuple(sorted(found.values(), key=lambda own: kinds.index(own.kind)))


def _kind(source: Source) -> str:
    name = source.tensor.name
    return "MTP stages" if name.startswith("mtp.") else rule_of(name).kind


def _form(source: Source) -> str:
    return str(source.format) if source.format.quantised else source.dtype


def _reasons(dropped: tuple[Dropped, ...]) -> dict[str, list[str]]:
    """The names that are left out, by the reason."""
    reasons: dict[str, list[str]] = {}
    for drop in dropped:
        reasons.setdefault(drop.reason, []).append(drop.name)
    return reasons


def _print(survey: Survey, entries: dict[str, Entry], classes: tuple[_Class, ...]) -> None:
    found = survey.catalog
    files = {entry.file for entry in entries.values()}
    size = sum(entry.nbytes for entry in entries.values())
    print(f"layout   {found.layout}")
    print(f"drafter  {found.drafter}")
    print(f"files    {len(files)} with {len(entries)} tensors, {gigabytes(size)} GB")
    print()
    rows = [[c.kind, str(len(c.names)), f"{c.size_bytes:,}", c.form] for c in classes]
    print(table(["kind", "tensors", "bytes", "format"], rows))
    for line in _remarks(survey):
        note(line)


def _remarks(survey: Survey) -> Iterator[str]:
    for reason, names in _reasons(survey.catalog.dropped).items():
        yield f"left out: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}: {reason}"
    yield from (line for line in survey.catalog.notes if not line.startswith("left out"))


def _as_json(
    survey: Survey, entries: dict[str, Entry], classes: tuple[_Class, ...]
) -> dict[str, object]:
    found = survey.catalog
    return {
        "layout": found.layout,
        "drafter": found.drafter.name.lower(),
        "files": len({entry.file for entry in entries.values()}),
        "tensors": len(entries),
        "bytes": sum(entry.nbytes for entry in entries.values()),
        "classes": [
            {"kind": c.kind, "format": c.form, "tensors": len(c.names), "bytes": c.size_bytes}
            for c in classes
        ],
        "dropped": _reasons(found.dropped),
        "unknown": [entry.name for entry in survey.unknown],
        "missing": list(survey.missing),
        "wrong": list(survey.wrong),
        "notes": list(found.notes),
    }
