"""Are this host's files what they should be? Reads them, and tells how far it is."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path

from dsv4_tp import demo
from dsv4_tp.agent.digests import Hashing, Ledger
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import INDEX, weight_files
from dsv4_tp.modelspec import read_spec
from dsv4_tp.prepared import (
    check_ranks,
    is_set,
    rank_folder,
    rank_of,
    read_digests,
    read_manifest,
)
from dsv4_tp.rpc.convert import part_from_proto
from dsv4_tp.v1.agent_pb2 import FileDigest, VerifyRequest, VerifyResponse

_TELL_S = 0.5
_SMALL_FILES = ("config.json", INDEX)  # that a rank reads


async def verify(request: VerifyRequest, folder: Path) -> AsyncIterator[VerifyResponse]:
    """Progress whenever there is some, then the digests; those in `folder` are not read again.

    Raises:
        CheckpointError: a file is missing, cannot be read, or changed meanwhile; or it is one of a
            prepared set and not as it was written.
    """
    model_dir = demo.model_dir(request.model_path)
    written = await asyncio.to_thread(_written, model_dir, request)
    files = [] if request.alone and not written else _files(model_dir, written)
    hashing = await asyncio.to_thread(Hashing, files, Ledger(folder, model_dir))
    running = asyncio.create_task(hashing.run())
    told_bytes = -1
    try:
        while not (await asyncio.wait({running}, timeout=_TELL_S))[0]:
            # Silence means that no byte moves: whoever listens has a deadline for that.
            if hashing.done_bytes > told_bytes:
                told_bytes = hashing.done_bytes
                yield VerifyResponse(done_bytes=told_bytes, total_bytes=hashing.total_bytes)
        running.result()
    finally:
        running.cancel()
    _check(written, hashing.digests)
    digests = [
        FileDigest(name=str(file.relative_to(model_dir)), sha256=bytes.fromhex(digest))
        for file, digest in sorted(hashing.digests.items())
        if file not in written
    ]
    yield VerifyResponse(
        done_bytes=hashing.total_bytes, total_bytes=hashing.total_bytes, files=digests
    )


def _written(model_dir: Path, request: VerifyRequest) -> dict[Path, str]:
    """The files of these ranks in a prepared set, with the digests they were written with."""
    if not is_set(model_dir):
        return {}
    parts = [part_from_proto(part) for part in request.parts]
    check_ranks(model_dir, read_spec(model_dir), parts, request.ranks)
    manifest = read_manifest(model_dir)
    numbers = (rank_of(model_dir, manifest, parts[rank]) for rank in request.ranks)
    folders = [rank_folder(model_dir, number) for number in numbers]
    return {
        folder / name: whole.sha256
        for folder in folders
        for name, whole in read_digests(folder).items()
    }


def _files(model_dir: Path, written: Iterable[Path]) -> list[Path]:
    """The files that a rank here reads."""
    small = [file for name in _SMALL_FILES if (file := model_dir / name).is_file()]
    return [*small, *(written if is_set(model_dir) else weight_files(model_dir))]


def _check(written: Mapping[Path, str], found: Mapping[Path, str]) -> None:
    for file, digest in written.items():
        if found[file] != digest:
            raise CheckpointError(
                f"{file}: not as it was written; remove it and repeat the command that made it"
            )
