"""Which tensors of the files fill which parameters: strict coverage, both ways.

Every name in the files is consumed or dropped for a stated reason, and every tensor of the model
is filled with the dtype and shape it must have; anything else is refused with names and numbers.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from dsv4_tp.errors import CheckpointError, ModelError
from dsv4_tp.layouts.formats import (
    FORMATS,
    SCALE_DTYPES,
    WEIGHT_DTYPES,
    released_dtype,
    scale_shape,
    weight_shape,
)
from dsv4_tp.layouts.headers import Entry
from dsv4_tp.layouts.names import FileNames, file_names
from dsv4_tp.layouts.source import Catalog, Dropped, Source
from dsv4_tp.layouts.tables import (
    DSPARK,
    FOREIGN,
    OFFICIAL,
    UNASKED_MTP,
)
from dsv4_tp.layouts.wording import some, tensors
from dsv4_tp.modelspec import ModelSpec, Tensor, contract


def native_catalog(spec: ModelSpec, *, mtp: bool) -> Catalog:
    """The catalog of the official release of `spec`, without files: to plan from a config.json.

    Raises:
        ModelError: a quantised tensor's columns do not fill whole groups.
    """
    return Catalog(
        tuple(
            Source(tensor, FORMATS[tensor.stored], released_dtype(tensor.stored, spec))
            for tensor in _tensors(spec, mtp=mtp)
        )
    )


def catalog(spec: ModelSpec, entries: Mapping[str, Entry], *, mtp: bool) -> Catalog:
    """Match the files' `entries` with the tensors of `spec`, its MTP stages included if `mtp`.

    Raises:
        CheckpointError: a name nobody consumes, a tensor nobody fills, a wrong dtype or shape, a
            layout that is not supported; all with names, numbers and the next step.
        ModelError: a quantised tensor's columns do not fill whole groups.
    """
    if mtp and spec.dspark_block_size:
        raise CheckpointError("MTP was asked for, but mtp.* holds a DSpark drafter; leave MTP off")
    wanted = [(tensor, file_names(OFFICIAL, tensor)) for tensor in _tensors(spec, mtp=mtp)]
    consumed = {name for _, names in wanted for name in names.all}
    reasons = _Reasons(spec)
    spare = {name: reasons.of(name) for name in entries if name not in consumed}
    _check_coverage(
        _place(entries),
        unknown=[name for name, reason in spare.items() if not reason],
        missing=[name for _, names in wanted for name in names.all if name not in entries],
    )
    sources = tuple(_source(tensor, names, entries) for tensor, names in wanted)
    dropped = tuple(Dropped(name, reason) for name, reason in spare.items())
    _check_tensors(_place(entries), sources)
    return Catalog(sources, dropped, _notes(spec, entries, dropped))


def _tensors(spec: ModelSpec, *, mtp: bool) -> tuple[Tensor, ...]:
    """The model's tensors, of which the quantised ones fill whole groups."""
    wanted = contract(spec, mtp=mtp)
    for tensor in wanted:
        granule, columns = FORMATS[tensor.stored].granule, tensor.shape[-1]
        if columns % granule:
            raise ModelError(
                f"{tensor.name} is quantised in groups of {granule}, but config.json gives it "
                f"{columns} columns; check the sizes there"
            )
    return wanted


class _Reasons:
    """Why a name that nothing consumes may be left out."""

    def __init__(self, spec: ModelSpec) -> None:
        backbone = len(contract(spec, mtp=False))
        stages = contract(spec, mtp=True)[backbone:]
        self._drops = (*OFFICIAL.drops, *((DSPARK,) if spec.dspark_block_size else ()))
        # By name and not by `mtp.*`, so that a stranger among them is still noticed.
        self._unasked = {name for tensor in stages for name in file_names(OFFICIAL, tensor).all}

    def of(self, name: str) -> str:
        """The reason; empty where there is none."""
        for drop in self._drops:
            if fnmatchcase(name, drop.pattern):
                return drop.reason
        return UNASKED_MTP if name in self._unasked else ""


def _place(entries: Mapping[str, Entry]) -> str:
    """The directory of the files, for messages."""
    return str(next(iter(entries.values())).file.parent) if entries else "the checkpoint"


def _check_coverage(place: str, *, unknown: list[str], missing: list[str]) -> None:
    for pattern, family in FOREIGN:
        met = [name for name in unknown if fnmatchcase(name, pattern)]
        if met:
            raise CheckpointError(
                f"{place}: {met[0]} shows {family}, a layout that is not supported yet; "
                "use a checkpoint with DeepSeek's own names"
            )
    if unknown:
        raise CheckpointError(
            f"{place}: {tensors(len(unknown))} of the files that config.json has no place for: "
            f"{some(unknown)}; check that both are of one revision"
        )
    if missing:
        raise CheckpointError(
            f"{place}: {tensors(len(missing))} in no file that config.json asks for: "
            f"{some(missing)}; check that the download is complete and of one revision"
        )


def _source(tensor: Tensor, names: FileNames, entries: Mapping[str, Entry]) -> Source:
    weights = tuple(entries[name] for name in names.weights)
    scales = tuple(entries[name] for name in names.scales)
    return Source(tensor, FORMATS[tensor.stored], weights[0].dtype, weights, scales)


def _check_tensors(place: str, sources: tuple[Source, ...]) -> None:
    wrong = [complaint for source in sources for complaint in _complaints(source)]
    if wrong:
        raise CheckpointError(
            f"{place}: {tensors(len(wrong))} not of the kind that config.json says: {some(wrong)}; "
            "check that both are of one revision"
        )


def _complaints(source: Source) -> Iterator[str]:
    tensor, form = source.tensor, source.format
    shape = tensor.shape[-2:]  # experts are stacked here, but one by one in the files
    yield from _odd(source.weights, WEIGHT_DTYPES[tensor.stored], weight_shape(shape, form))
    if form.quantised:
        yield from _odd(source.scales, SCALE_DTYPES[form], scale_shape(shape, form))


def _odd(
    entries: tuple[Entry, ...], dtypes: tuple[str, ...], shape: tuple[int, ...]
) -> Iterator[str]:
    """The entries without the shape or one of the dtypes they must have; experts share theirs."""
    dtypes = (entries[0].dtype,) if entries[0].dtype in dtypes else dtypes
    for entry in entries:
        if entry.dtype not in dtypes or entry.shape != shape:
            yield (
                f"{entry.name} in {entry.file.name} is {entry.dtype} {list(entry.shape)}, "
                f"expected {' or '.join(dtypes)} {list(shape)}"
            )


def _notes(
    spec: ModelSpec, entries: Mapping[str, Entry], dropped: tuple[Dropped, ...]
) -> tuple[str, ...]:
    counts = Counter(drop.reason for drop in dropped)
    notes = [f"left out {count}: {reason}" for reason, count in counts.items()]
    if spec.num_nextn_predict_layers and not any(name.startswith("mtp.") for name in entries):
        stages = spec.num_nextn_predict_layers
        notes.append(f"config.json announces {stages} MTP stages, the files hold none")
    return tuple(notes)
