"""Which tensors of the files fill which parameters: strict coverage, both ways.

Every name in the files is consumed or dropped for a stated reason, and every tensor of the model
is filled with the dtype and shape it must have; anything else is refused with names and numbers.
MTP stages that are there are held to the same, asked for or not.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from dsv4_tp.errors import CheckpointError, ModelError
from dsv4_tp.layouts.detect import detect
from dsv4_tp.layouts.formats import FORMATS, released_dtype
from dsv4_tp.layouts.headers import Entry
from dsv4_tp.layouts.match import Match, match
from dsv4_tp.layouts.names import Reading
from dsv4_tp.layouts.settings import disagreements, stated_formats
from dsv4_tp.layouts.source import Catalog, Drafter, Dropped, Source
from dsv4_tp.layouts.tables import DSPARK, DSPARK_MARKS, UNASKED_MTP
from dsv4_tp.layouts.wording import some, tensors
from dsv4_tp.modelspec import ModelSpec, Tensor, contract

_REVISION = "check that both are of one revision"


@dataclass(frozen=True, slots=True)
class Survey:
    """A checkpoint as its headers show it, sound or not."""

    place: str
    catalog: Catalog  # of what was found, MTP stages included where there are any
    unknown: tuple[Entry, ...] = ()  # what nothing consumes
    missing: tuple[str, ...] = ()  # names that some tensor needs
    wrong: tuple[str, ...] = ()  # complaints about entries

    def problems(self) -> Iterator[str]:
        """What stands in the way of loading, each with names and the next step."""
        if self.unknown:
            yield (
                f"{tensors(len(self.unknown))} of the files that config.json has no place for: "
                f"{some(tuple(map(str, self.unknown)))}; {_REVISION}"
            )
        if self.missing:
            yield (
                f"{tensors(len(self.missing))} in no file that config.json asks for: "
                f"{some(self.missing)}; check that the download is complete and of one revision"
            )
        if self.wrong:
            yield (
                f"{tensors(len(self.wrong))} not of the kind that config.json says: "
                f"{some(self.wrong)}; {_REVISION}"
            )


def native_catalog(spec: ModelSpec, *, mtp: bool) -> Catalog:
    """The catalog that config.json alone lets expect, without files: to plan from it.

    DeepSeek's release of `spec`, or a conversion by MLX where it states one.

    Raises:
        ModelError: a quantised tensor's columns do not fill whole groups, or a setting of MLX's
            quantisation names no module.
    """
    formats = stated_formats(spec)
    wanted = _whole_groups(contract(spec, mtp=mtp))
    return Catalog(
        tuple(
            Source(
                tensor,
                formats.get(tensor.name, FORMATS[tensor.stored]),
                released_dtype(tensor.stored, spec),
            )
            for tensor in wanted
        )
    )


def catalog(spec: ModelSpec, entries: Mapping[str, Entry], *, mtp: bool) -> Catalog:
    """Match the files' `entries` with the tensors of `spec`; its MTP stages too if `mtp`.

    Where the files have no MTP stages that we know, the catalog has none and a note says so.

    Raises:
        CheckpointError: a name nobody consumes, a tensor nobody fills, a wrong dtype or shape, two
            layouts mixed, a layout that is not supported, a format other than config.json says;
            all with names, numbers and the next step.
        ModelError: a quantised tensor's columns do not fill whole groups.
    """
    survey = survey_of(spec, entries)
    problems = tuple(survey.problems())
    if problems:
        raise CheckpointError(f"{survey.place}: {'; also '.join(problems)}")
    found = survey.catalog
    return found if mtp else without_mtp(found)


def survey_of(spec: ModelSpec, entries: Mapping[str, Entry]) -> Survey:
    """What the files' `entries` are for `spec`, without a verdict.

    Raises:
        CheckpointError, ModelError: as `catalog`, where no layout can be told or none fits.
    """
    place = str(next(iter(entries.values())).file.parent) if entries else "the checkpoint"
    drafter = _drafter(spec, entries)
    wanted = _whole_groups(contract(spec, mtp=drafter is Drafter.NEXTN))
    reading = detect(spec, entries, place)
    matches = _matches(spec, reading, wanted, entries)
    consumed = {name for found in matches for name in found.names}
    spare = {name: _reason(name, reading, drafter) for name in entries if name not in consumed}
    dropped = tuple(Dropped(name, reason) for name, reason in spare.items() if reason)
    sources = tuple(found.source for found in matches if found.source)
    notes = tuple(_notes(spec, drafter, dropped))
    return Survey(
        place,
        Catalog(sources, dropped, notes, reading.layout.name, drafter),
        unknown=tuple(entries[name] for name, reason in spare.items() if not reason),
        missing=tuple(dict.fromkeys(name for found in matches for name in found.missing)),
        wrong=(
            *disagreements(spec, reading, sources),
            *(complaint for found in matches for complaint in found.wrong),
        ),
    )


def without_mtp(found: Catalog) -> Catalog:
    """The same catalog without the MTP stages, which are listed as dropped."""
    if not found.has_mtp:
        return found
    stages = [source for source in found.sources if source.tensor.name.startswith("mtp.")]
    entries = (e for source in stages for e in (*source.weights, *source.scales, *source.biases))
    # A catalog without files knows the tensors by their own names only.
    names = dict.fromkeys(e.name for e in entries) or [source.tensor.name for source in stages]
    return Catalog(
        found.sources[: -len(stages)],
        (*found.dropped, *(Dropped(name, UNASKED_MTP) for name in names)),
        (*found.notes, f"left out {len(names)}: {UNASKED_MTP}"),
        found.layout,
        found.drafter,
    )


def _matches(
    spec: ModelSpec, reading: Reading, wanted: tuple[Tensor, ...], entries: Mapping[str, Entry]
) -> tuple[Match, ...]:
    named = ((tensor, reading.names(tensor, spec)) for tensor in wanted)
    return tuple(
        match(tensor, names, entries, spec.o_groups) for tensor, names in named if names is not None
    )


def _whole_groups(wanted: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The same tensors, of which the quantised ones fill whole groups."""
    for tensor in wanted:
        granule, columns = FORMATS[tensor.stored].granule, tensor.shape[-1]
        if columns % granule:
            raise ModelError(
                f"{tensor.name} is quantised in groups of {granule}, but config.json gives it "
                f"{columns} columns; check the sizes there"
            )
    return wanted


def _drafter(spec: ModelSpec, entries: Mapping[str, Entry]) -> Drafter:
    stages = [name for name in entries if name.startswith("mtp.")]
    if stages and (spec.dspark_block_size or any(n.startswith(DSPARK_MARKS) for n in stages)):
        return Drafter.DSPARK
    if not spec.num_nextn_predict_layers:
        return Drafter.NONE
    return Drafter.NEXTN if stages else Drafter.STRIPPED


def _reason(name: str, reading: Reading, drafter: Drafter) -> str:
    """Why a name that nothing consumes may be left out; empty where it may not."""
    dspark = (DSPARK,) if drafter is Drafter.DSPARK else ()
    for drop in (*reading.layout.drops, *dspark):
        if fnmatchcase(name, drop.pattern):
            return drop.reason
    return ""


def _notes(spec: ModelSpec, drafter: Drafter, dropped: tuple[Dropped, ...]) -> Iterator[str]:
    counts = Counter(drop.reason for drop in dropped)
    yield from (f"left out {count}: {reason}" for reason, count in counts.items())
    if drafter is Drafter.STRIPPED:
        yield (
            f"config.json announces {spec.num_nextn_predict_layers} MTP stages, "
            "the files hold none: speculation is off"
        )
