"""The checkpoint that a set is made from: which one it is, and whether it stays the same."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import INDEX

MANIFEST = "prepared.json"

# What a model needs beside its weights: settings, tokenizer, prompt format, licence.
_SMALL = ("*.json", "*.jinja", "*.txt", "LICENSE*", "encoding/*.py")
_SAMPLES = 64  # places in each shard
_SAMPLE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Stamp:
    """What changes when a file is written to, replaced or copied."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, file: Path) -> "Stamp":
        """The file's stamp now; OSError if it is gone."""
        found = file.stat()
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


@dataclass(frozen=True, slots=True)
class Origin:
    """The shards of a checkpoint as they were when they were first looked at."""

    stamps: Mapping[Path, Stamp]

    @classmethod
    def of(cls, files: Iterable[Path]) -> "Origin":
        """The origin of what is read from these files from now on."""
        return cls({file: Stamp.of(file) for file in files})

    def check(self) -> None:
        """Raises CheckpointError, which names a file, if one is not what it was."""
        for file, stamp in self.stamps.items():
            if not file.exists() or Stamp.of(file) != stamp:
                raise CheckpointError(
                    f"{file}: changed while it was being read; start again when the copy is at rest"
                )


def small_files(model_dir: Path) -> dict[str, Path]:
    """The files of a checkpoint beside its weights, by their names within it."""
    found = (file for pattern in _SMALL for file in sorted(model_dir.glob(pattern)))
    names = {str(file.relative_to(model_dir)): file for file in found if file.is_file()}
    return {name: file for name, file in names.items() if name not in (INDEX, MANIFEST)}


def fingerprint(shards: Iterable[Path]) -> str:
    """Which checkpoint these files are: sha256 of their names, sizes, headers and samples.

    Copies agree in it. Other weights do not, though their shapes may be the same; one wrong byte
    may go unseen, which is what digests are for.

    Raises:
        CheckpointError: a file cannot be read.
    """
    digest = hashlib.sha256()
    for file in sorted(shards, key=lambda file: file.name):
        try:
            for sample in _samples(file):
                digest.update(sample)
        except OSError as error:
            raise CheckpointError(f"{file}: {error.strerror}; check that it can be read") from error
    return digest.hexdigest()


def _samples(file: Path) -> Iterator[bytes]:
    """Name and size, the header, and bytes from all over the file."""
    with file.open("rb", buffering=0) as stream:
        handle, size = stream.fileno(), os.fstat(stream.fileno()).st_size
        yield f"{file.name} {size}\n".encode()
        head = int.from_bytes(os.pread(handle, 8, 0), "little")
        yield os.pread(handle, min(head, size), 8)
        step = max(size // _SAMPLES, _SAMPLE_BYTES)
        for offset in range(0, size, step):
            yield os.pread(handle, _SAMPLE_BYTES, offset)
