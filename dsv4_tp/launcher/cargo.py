"""What is sent to the hosts: a prepared set's files, cut from a checkpoint as they are sent.

Nothing of it is written here; a set that is here already is sent as it is.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dsv4_tp.core import AttentionSplit, ExpertSplit
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import weight_files
from dsv4_tp.modelspec import read_spec
from dsv4_tp.pieces import open_bundle
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import (
    CHUNK_BYTES,
    Manifest,
    Origin,
    RankFile,
    check_ranks,
    is_set,
    project,
    rank_folder,
    read_catalog,
    read_digests,
    read_manifest,
    small_files,
)
from dsv4_tp.v1.agent_pb2 import Chunk


@dataclass(frozen=True, slots=True)
class Parcel:
    """One file of a rank's folder."""

    rank: int
    name: str
    nbytes: int
    read: Callable[[], Iterator[memoryview]]  # each view is valid until the next is asked for
    sha256: str = ""  # if it is known before


@dataclass(frozen=True, slots=True)
class Cargo:
    """A whole set that can be sent."""

    manifest: Manifest
    small_files: Mapping[str, bytes]
    parcels: tuple[Parcel, ...]
    origin: Origin

    def of(self, ranks: Iterable[int]) -> tuple[Parcel, ...]:
        """The files of these ranks."""
        held = frozenset(ranks)
        return tuple(parcel for parcel in self.parcels if parcel.rank in held)

    def chunks(self, parcel: Parcel) -> Iterator[Chunk]:
        """The bytes of a file.

        Raises:
            CheckpointError: before the last chunk, if what is read has changed meanwhile.
        """
        digest, count = hashlib.sha256(), 0
        for data in parcel.read():
            digest.update(data)
            count += len(data)
            if count == parcel.nbytes:
                self._check(parcel, digest.hexdigest())
            yield Chunk(data=bytes(data), sha256=digest.digest())

    def _check(self, parcel: Parcel, sha256: str) -> None:
        """The last chunk makes a file whole, so it is held back until all is known to be well."""
        self.origin.check()
        if parcel.sha256 not in ("", sha256):
            raise CheckpointError(
                f"rank-{parcel.rank}/{parcel.name}: not as it was written; make the set again"
            )


def cargo_of(
    model_dir: Path,
    weights: tuple[int, ...],
    experts: ExpertSplit,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> Cargo:
    """What ranks of these weights need of the checkpoint or the prepared set in `model_dir`.

    Raises:
        ModelError, CheckpointError: the files are not those of one DeepSeek-V4 model, or a set for
            other shares, or an unfinished one.
        PlanError: the model cannot be shared out so.
    """
    if is_set(model_dir):
        return _of_set(model_dir, weights, experts, attention)
    origin = Origin.of(weight_files(model_dir))
    made = project(model_dir, weights, experts, attention)
    parcels = (
        Parcel(file.rank, file.name, file.nbytes, partial(_read_pieces, file))
        for file in made.files
    )
    small = {name: file.read_bytes() for name, file in made.small_files.items()}
    return Cargo(made.manifest, small, tuple(parcels), origin)


def _of_set(
    model_dir: Path, weights: tuple[int, ...], experts: ExpertSplit, attention: AttentionSplit
) -> Cargo:
    spec = read_spec(model_dir)
    found = read_catalog(model_dir, spec, mtp=True)
    plan = make_plan(spec, found, weights, expert_split=experts, attention=attention)
    check_ranks(model_dir, spec, plan.parts, range(len(plan.parts)))
    files = [
        (rank, rank_folder(model_dir, rank) / whole.file, whole)
        for rank in range(len(plan.parts))
        for whole in read_digests(rank_folder(model_dir, rank)).values()
    ]
    parcels = (
        Parcel(rank, whole.file, whole.nbytes, partial(_read_file, path), whole.sha256)
        for rank, path, whole in files
    )
    small = {name: file.read_bytes() for name, file in small_files(model_dir).items()}
    origin = Origin.of(path for _, path, _ in files)
    return Cargo(read_manifest(model_dir), small, tuple(parcels), origin)


def _read_pieces(file: RankFile) -> Iterator[memoryview]:
    with open_bundle(file.pieces) as bundle:
        yield from bundle.chunks(CHUNK_BYTES)


def _read_file(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(CHUNK_BYTES))
    try:
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                yield buffer[:count]
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; check that it can be read") from error
