"""Making a prepared set: a rank's pieces copied once, a file for each group, in any order of runs.

Bytes are copied as they are; nothing is converted, so MLX is not needed.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from dsv4_tp.errors import CheckpointError
from dsv4_tp.pieces import Groups, Piece, bundle_bytes, open_bundle
from dsv4_tp.prepared.manifest import Manifest, is_set, read_manifest
from dsv4_tp.prepared.origin import MANIFEST, Origin
from dsv4_tp.prepared.sink import Sink, rank_folder

CHUNK_BYTES = 4 << 20
_PARTIAL = ".partial"

OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RankFile:
    """One file of a rank's folder, to be made from these pieces."""

    rank: int
    name: str
    pieces: Mapping[str, Piece]

    @property
    def nbytes(self) -> int:
        """Its size."""
        return bundle_bytes(self.pieces)


def rank_files(rank: int, groups: Groups) -> tuple[RankFile, ...]:
    """The files of a rank that reads these groups."""
    return tuple(
        RankFile(rank, file_name(group), {n: p for load in loads for n, p in load.pieces.items()})
        for group, loads in groups.items()
    )


def file_name(group: str) -> str:
    """The file that holds a group of loads."""
    return f"{group}.safetensors"


def start_set(out: Path, manifest: Manifest, small_files: Mapping[str, bytes]) -> None:
    """Make `out` a set of this manifest without weights, or find that it is one already.

    Raises:
        CheckpointError: something else is there, or it cannot be written.
    """
    # Looked at first, for another host that shares the disk may begin the set meanwhile.
    taken = out.exists() and (not out.is_dir() or any(map(_is_whole, out.iterdir())))
    if is_set(out):
        _check_same(out, read_manifest(out), manifest)
    elif taken:
        raise CheckpointError(f"{out}: not empty and no prepared set; give another directory")
    # The manifest first: what is interrupted here is then known for a set that was begun.
    files = {MANIFEST: manifest.to_json().encode(), **small_files}
    try:
        for name, data in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            _write(out / name, data)
    except OSError as error:
        raise CheckpointError(f"{error.filename or out}: {error.strerror}") from error


def fill_set(out: Path, files: Sequence[RankFile], on_bytes: OnBytes) -> None:
    """Write those of `files` that the set in `out` does not have yet.

    `on_bytes(done, total)` counts them, whole ones from earlier runs included. Files of one group
    should follow each other, for what several ranks read is then read from the disk once.

    Raises:
        CheckpointError: the disk is full, the checkpoint cannot be read or changes meanwhile.
    """
    origin = Origin.of({s.file for file in files for p in file.pieces.values() for s in p.segments})
    with ExitStack() as stack:
        ranks = dict.fromkeys(file.rank for file in files)
        sinks = {rank: stack.enter_context(Sink(rank_folder(out, rank))) for rank in ranks}
        missing = [file for file in files if file.name not in sinks[file.rank].held]
        check_space(out, missing)
        total = sum(file.nbytes for file in files)
        done = total - sum(file.nbytes for file in missing)
        on_bytes(done, total)
        for file in missing:
            for count in _copy(file, sinks[file.rank], origin):
                done += count
                on_bytes(done, total)


def check_space(out: Path, files: Iterable[RankFile]) -> None:
    """Raises CheckpointError, with the numbers, if the disk of `out` is too small for `files`."""
    needed, free = sum(file.nbytes for file in files), shutil.disk_usage(out).free
    if needed > free:
        raise CheckpointError(
            f"{out}: {needed / 1e9:.1f} GB are to be written, {free / 1e9:.1f} GB are free; "
            "make room or give a directory on another disk"
        )


def _copy(file: RankFile, sink: Sink, origin: Origin) -> Iterator[int]:
    """Write one file; yields how many bytes each step added."""
    with sink.file(file.name) as writing, open_bundle(file.pieces) as bundle:
        for chunk in bundle.chunks(CHUNK_BYTES):
            writing.write(chunk)
            yield len(chunk)
        origin.check()


def _check_same(out: Path, found: Manifest, wanted: Manifest) -> None:
    if found.fingerprint != wanted.fingerprint:
        raise CheckpointError(f"{out}: holds a set of another checkpoint; {_ELSEWHERE}")
    if found != wanted:
        raise CheckpointError(f"{out}: holds a set for {found.purpose}; {_ELSEWHERE}")


_ELSEWHERE = "remove it, or give another directory"


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all; left alone if it is so already."""
    if file.is_file() and file.read_bytes() == data:
        return
    # Under a name of its own: hosts that share a disk may write the same file at once.
    partial = file.with_name(f"{file.name}.{token_hex(4)}{_PARTIAL}")
    try:
        partial.write_bytes(data)
        partial.rename(file)
    finally:
        partial.unlink(missing_ok=True)


def _is_whole(file: Path) -> bool:
    return not file.name.endswith(_PARTIAL)
