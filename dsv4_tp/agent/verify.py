"""Are this host's files what they should be? Reads them, and tells how far it is."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from dsv4_tp import demo
from dsv4_tp.agent.digests import Hashing, Ledger
from dsv4_tp.layouts import weight_files
from dsv4_tp.v1.agent_pb2 import FileDigest, VerifyRequest, VerifyResponse

_TELL_S = 0.5
_SMALL_FILES = ("config.json", "model.safetensors.index.json")  # that a rank reads


async def verify(request: VerifyRequest, folder: Path) -> AsyncIterator[VerifyResponse]:
    """Progress whenever there is some, then the digests; those in `folder` are not read again.

    Raises:
        CheckpointError: a file is missing, cannot be read, or changed meanwhile.
    """
    model_dir = demo.model_dir(request.model_path)
    hashing = await asyncio.to_thread(_start, model_dir, folder)
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
    files = [
        FileDigest(name=str(file.relative_to(model_dir)), sha256=bytes.fromhex(digest))
        for file, digest in sorted(hashing.digests.items())
    ]
    yield VerifyResponse(
        done_bytes=hashing.total_bytes, total_bytes=hashing.total_bytes, files=files
    )


def _start(model_dir: Path, folder: Path) -> Hashing:
    small = [file for name in _SMALL_FILES if (file := model_dir / name).is_file()]
    return Hashing([*small, *weight_files(model_dir)], Ledger(folder, model_dir))
