"""prepared.json: what a prepared set is made from and for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from dsv4_tp.core import AttentionSplit, ExpertSplit, Part, Span
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import Catalog, Drafter, Format, Source
from dsv4_tp.modelspec import ModelSpec, contract
from dsv4_tp.prepared.origin import MANIFEST
from dsv4_tp.rules import attention_of

_VERSION = 1
_MAKE_AGAIN = "make the set again with `dsv4-tp shard`"


@dataclass(frozen=True, slots=True)
class Stored:
    """How a tensor lay in the checkpoint, and so how its pieces are to be read."""

    format: Format
    dtype: str  # as Source has it


@dataclass(frozen=True, slots=True)
class Manifest:
    """One prepared set, whichever of its ranks are there."""

    fingerprint: str  # of the checkpoint
    weights: tuple[int, ...]  # the ranks' shares as they were asked for
    experts: ExpertSplit
    parts: tuple[Part, ...]  # by rank
    layout: str
    drafter: Drafter
    notes: tuple[str, ...]  # of the catalog
    tensors: Mapping[str, Stored]

    @property
    def attention(self) -> AttentionSplit:
        """Whether each of several ranks has all of it."""
        return attention_of(self.parts)

    @property
    def purpose(self) -> str:
        """What it is for, in words."""
        count = "1 rank" if len(self.parts) == 1 else f"{len(self.parts)} ranks"
        shares = f"{count} {':'.join(map(str, self.weights))}"
        return f"{shares}, experts by {self.experts.value}, attention {self.attention.value}"

    def catalog(self, spec: ModelSpec) -> Catalog:
        """The catalog of the checkpoint, without its files.

        Raises:
            CheckpointError: `spec` is of another model than the set.
        """
        staged = any(name.startswith("mtp.") for name in self.tensors)
        wanted = {tensor.name: tensor for tensor in contract(spec, mtp=staged)}
        if wanted.keys() != self.tensors.keys():
            odd = min(wanted.keys() ^ self.tensors.keys())
            raise CheckpointError(
                f"{MANIFEST} and config.json are not of one model: {odd} is in one of them only; "
                f"{_MAKE_AGAIN}"
            )
        sources = (
            Source(wanted[name], stored.format, stored.dtype)
            for name, stored in self.tensors.items()
        )
        notes = (*self.notes, f"prepared for {self.purpose}")
        return Catalog(tuple(sources), notes=notes, layout=self.layout, drafter=self.drafter)

    def to_json(self) -> str:
        """The text of the file."""
        raw = asdict(self) | {
            "version": _VERSION,
            "drafter": self.drafter.name,
            "tensors": {
                name: [*asdict(stored.format).values(), stored.dtype]
                for name, stored in self.tensors.items()
            },
        }
        return json.dumps(raw) + "\n"


def manifest_of(
    catalog: Catalog,
    *,
    fingerprint: str,
    weights: tuple[int, ...],
    experts: ExpertSplit,
    parts: tuple[Part, ...],
) -> Manifest:
    """The manifest of a set made from this catalog, MTP stages among it, for these parts."""
    return Manifest(
        fingerprint=fingerprint,
        weights=weights,
        experts=experts,
        parts=parts,
        layout=catalog.layout,
        drafter=catalog.drafter,
        notes=catalog.notes,
        tensors={
            source.tensor.name: Stored(source.format, source.dtype) for source in catalog.sources
        },
    )


def is_set(model_dir: Path) -> bool:
    """Whether it is a prepared set and not a checkpoint."""
    return (model_dir / MANIFEST).is_file()


def read_manifest(model_dir: Path) -> Manifest:
    """The manifest of the set in `model_dir`.

    Raises:
        CheckpointError: it cannot be read, or another version wrote it.
    """
    file = model_dir / MANIFEST
    try:
        return parse_manifest(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; check that it can be read") from error
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}; {_MAKE_AGAIN}") from error


def parse_manifest(text: str) -> Manifest:
    """The manifest of a text; ValueError says what is wrong with it."""
    raw: Any = json.loads(text)
    try:
        if raw["version"] != _VERSION:
            raise ValueError(f"version {raw['version']}, this program reads {_VERSION}")
        return Manifest(
            fingerprint=str(raw["fingerprint"]),
            weights=tuple(map(int, raw["weights"])),
            experts=ExpertSplit(raw["experts"]),
            parts=tuple(map(_part, raw["parts"])),
            layout=str(raw["layout"]),
            drafter=Drafter[raw["drafter"]],
            notes=tuple(map(str, raw["notes"])),
            tensors={
                str(name): Stored(Format(*form), str(dtype))
                for name, (*form, dtype) in raw["tensors"].items()
            },
        )
    except (KeyError, TypeError, AttributeError, AssertionError) as error:
        raise ValueError(f"not a prepared set's manifest ({error!r})") from error


def _part(raw: Mapping[str, Mapping[str, int]]) -> Part:
    spans = {name.name: raw[name.name] for name in fields(Part)}
    return Part(**{name: Span(span["start"], span["stop"]) for name, span in spans.items()})
