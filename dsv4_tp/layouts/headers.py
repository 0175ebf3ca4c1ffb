"""What a directory of safetensors files holds, read from their headers alone.

Owns the file format: the index, the header of each shard, and whether the bytes it promises are
there. Knows nothing of DeepSeek's names and reads no tensor.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any, cast

from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts.wording import some, tensors

INDEX = "model.safetensors.index.json"

# Bytes per value of every dtype we can meet, in safetensors' words.
DTYPE_BYTES: Mapping[str, int] = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file: `nbytes` bytes from the absolute byte `offset` on, in C order."""

    name: str
    dtype: str  # safetensors' word: "F8_E4M3", "BF16", ...
    shape: tuple[int, ...]
    file: Path
    offset: int
    nbytes: int

    @property
    def stop(self) -> int:
        """The absolute byte after the last one."""
        return self.offset + self.nbytes

    def __str__(self) -> str:
        """What and where, for messages."""
        return f"{self.name} in {self.file.name}"


def read_headers(model_dir: Path) -> dict[str, Entry]:
    """Every tensor of the checkpoint in `model_dir`, by its name in the files.

    Raises:
        CheckpointError: the directory or a shard is missing, a file is damaged or truncated, a
            tensor is in two files, or the index and the shards disagree.
    """
    if not model_dir.is_dir():
        raise CheckpointError(f"{model_dir}: no such directory; give the one that holds the model")
    index = model_dir / INDEX
    placed = _read_index(index) if index.is_file() else None
    entries: dict[str, Entry] = {}
    for file in _shards(model_dir, placed):
        for entry in read_header(file):
            if entry.name in entries:
                other = entries[entry.name].file.name
                raise CheckpointError(f"{file}: {entry.name} is in {other} too; remove one of them")
            entries[entry.name] = entry
    if placed is not None:
        _check_index(index, placed, entries)
    return entries


def weight_files(model_dir: Path) -> tuple[Path, ...]:
    """The files that a checkpoint's tensors are in, without a look into them.

    Raises:
        CheckpointError: one is missing, or there is none.
    """
    index = model_dir / INDEX
    return tuple(_shards(model_dir, _read_index(index) if index.is_file() else None))


def read_header(file: Path) -> tuple[Entry, ...]:
    """The tensors of one safetensors file, in the order of their bytes.

    Raises:
        CheckpointError: the file is truncated, its header is broken, or some bytes are nobody's.
    """
    header, start = _parse(file)
    header.pop("__metadata__", None)
    entries = [_entry(file, name, raw, start) for name, raw in header.items()]
    entries.sort(key=lambda entry: (entry.offset, entry.stop))
    for one, other in pairwise(entries):
        if one.stop > other.offset:
            raise _broken(file, f"{one.name} and {other.name} overlap at byte {other.offset}")
    size = file.stat().st_size
    if entries and entries[-1].stop > size:
        last = entries[-1]
        raise CheckpointError(
            f"{file}: truncated: {size} bytes, but {last.name} ends at {last.stop}; copy it again"
        )
    _check_gaps(file, entries, start, size)
    return tuple(entries)


def _check_gaps(file: Path, entries: list[Entry], start: int, size: int) -> None:
    """Refuse bytes that belong to no tensor: an offset is not what it was, or the file is not."""
    starts = (*(entry.offset for entry in entries), size)
    stops = (start, *(entry.stop for entry in entries))
    names = ("the header", *(entry.name for entry in entries))
    for name, stop, begin in zip(names, stops, starts, strict=True):
        if stop < begin:
            raise _broken(file, f"bytes {stop} to {begin}, behind {name}, belong to no tensor")


def _parse(file: Path) -> tuple[dict[str, object], int]:
    """The header's JSON object and the absolute byte at which the data begins."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(min(length, size))
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; check that it can be read") from error
    if size < 8 or length > size - 8:
        raise CheckpointError(
            f"{file}: truncated or no safetensors file: {size} bytes, "
            f"header of {length}; copy it again"
        )
    try:
        header = json.loads(text, object_pairs_hook=_unique)
    except ValueError as error:  # bad UTF-8, bad JSON or a repeated name
        raise _broken(file, str(error)) from error
    if not isinstance(header, dict):
        raise _broken(file, f"a JSON object was expected, found {type(header).__name__}")
    return cast(dict[str, object], header), 8 + length


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) < len(pairs):
        seen = [name for name, _ in pairs]
        raise ValueError(f"{next(n for n in seen if seen.count(n) > 1)} is there twice")
    return names


def _entry(file: Path, name: str, raw: object, start: int) -> Entry:
    try:
        fields = cast(dict[str, Any], raw)
        dtype = str(fields["dtype"])
        shape = tuple(int(size) for size in fields["shape"])
        begin, end = (int(offset) for offset in fields["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(
            file, f"{name} lacks a dtype, shape or data_offsets that can be read"
        ) from error
    if dtype not in DTYPE_BYTES:
        raise _broken(file, f"{name} has the unknown dtype {dtype}")
    if min((begin, *shape)) < 0 or prod(shape) * DTYPE_BYTES[dtype] != end - begin:
        raise _broken(file, f"{name} {dtype} {list(shape)} does not fill bytes {begin} to {end}")
    return Entry(name, dtype, shape, file, start + begin, end - begin)


def _read_index(index: Path) -> dict[str, str]:
    """The index's map from a tensor's name to the file that holds it."""
    try:
        placed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(shard) for name, shard in placed.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index}: no JSON with a weight_map; copy it again") from error


def _shards(model_dir: Path, placed: Mapping[str, str] | None) -> Iterator[Path]:
    if placed is None:
        files = sorted(model_dir.glob("model*.safetensors"))
    else:
        files = [model_dir / name for name in sorted(set(placed.values()))]
    if not files:
        raise CheckpointError(
            f"{model_dir}: no model*.safetensors file; copy the model's weights there"
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"{model_dir}: {len(missing)} of {len(files)} files of weights are missing: "
            f"{some(missing)}; copy them"
        )
    yield from files


def _check_index(index: Path, placed: Mapping[str, str], entries: Mapping[str, Entry]) -> None:
    wrong = [
        f"{name} in {shard}"
        for name, shard in placed.items()
        if name not in entries or entries[name].file.name != shard
    ]
    wrong += [str(entry) for name, entry in entries.items() if name not in placed]
    if wrong:
        raise CheckpointError(
            f"{index}: {tensors(len(wrong))} not where it says: {some(wrong)}; "
            "index and files are not of one revision, copy both again"
        )


def _broken(file: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{file}: broken header: {what}; copy it again")
