"""Taking in the files of a prepared set that another machine sends: each whole or not at all."""

import asyncio
import shutil
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping
from contextlib import (
    AbstractContextManager,
    ExitStack,
    aclosing,
    asynccontextmanager,
    contextmanager,
)
from pathlib import Path, PurePosixPath
from typing import TypeVar

from dsv4_tp.errors import CheckpointError
from dsv4_tp.prepared import Sink, parse_manifest, rank_folder, start_set
from dsv4_tp.v1 import agent_pb2 as pb

_WEIGHTS = ".safetensors"

Requests = AsyncIterator[pb.ReceiveRequest]
_T = TypeVar("_T")


async def receive(requests: Requests) -> AsyncGenerator[pb.ReceiveResponse]:
    """Obey until the sender ends; files that are whole stay, however it ends.

    It fails if something else is there, a name leads elsewhere, bytes arrive damaged or out of
    order, or the disk is full.
    """
    try:
        async with aclosing(_receive(requests)) as responses:
            async for response in responses:
                yield response
    except CheckpointError as error:
        yield pb.ReceiveResponse(failed=pb.Failed(message=str(error)))
        async for _ in requests:
            pass


async def _receive(requests: Requests) -> AsyncGenerator[pb.ReceiveResponse]:
    head = (await anext(requests, pb.ReceiveRequest())).begin
    async with _in_thread(_open_set(head)) as sinks:
        free_bytes = shutil.disk_usage(head.path).free
        yield pb.ReceiveResponse(held=pb.Held(files=_held(sinks), free_bytes=free_bytes))
        while request := await anext(requests, None):
            await _store(sinks, request.file, requests)
            yield pb.ReceiveResponse(stored=request.file)


@contextmanager
def _open_set(head: pb.SetHead) -> Generator[dict[int, Sink]]:
    """The set with its small files, and the folders of the ranks for us alone."""
    out = Path(head.path)
    if not out.is_absolute():
        raise CheckpointError(f"{head.path!r}: expected an absolute path")
    for name in head.small_files:
        _check_within(name)
    try:
        manifest = parse_manifest(head.manifest)
    except ValueError as error:
        raise CheckpointError(f"{out}: {error}") from error
    start_set(out, manifest, head.small_files)
    with ExitStack() as stack:
        yield {rank: stack.enter_context(Sink(rank_folder(out, rank))) for rank in head.ranks}


def _held(sinks: Mapping[int, Sink]) -> list[pb.FileHead]:
    return [
        pb.FileHead(rank=rank, name=whole.file, nbytes=whole.nbytes)
        for rank, sink in sinks.items()
        for whole in sink.held.values()
    ]


async def _store(sinks: Mapping[int, Sink], head: pb.FileHead, requests: Requests) -> None:
    """Write the file whose chunks come next."""
    _check_within(head.name)
    sink = sinks.get(head.rank)
    if sink is None or "/" in head.name or not head.name.endswith(_WEIGHTS):
        raise CheckpointError(f"rank {head.rank}, {head.name!r}: not a file of this set")
    async with _in_thread(sink.file(head.name)) as writing:
        while writing.nbytes < head.nbytes:
            chunk = (await anext(requests, pb.ReceiveRequest())).chunk
            await asyncio.to_thread(writing.write, chunk.data)
            damaged = writing.sha256 != chunk.sha256.hex()
            if damaged or not chunk.data or writing.nbytes > head.nbytes:
                raise CheckpointError(
                    f"{sink.folder / head.name}: not received as it was sent, "
                    f"near byte {writing.nbytes}; repeat the command"
                )


def _check_within(name: str) -> None:
    """Refuse a name that leads out of the directory behind which it is put."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise CheckpointError(f"{name!r}: leads out of the set")


@asynccontextmanager
async def _in_thread(manager: AbstractContextManager[_T]) -> AsyncGenerator[_T]:
    """The same block, entered and left in a thread: a disk may be slow, the agent may not."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    except BaseException:
        if not await asyncio.to_thread(manager.__exit__, *sys.exc_info()):
            raise
    else:
        await asyncio.to_thread(manager.__exit__, None, None, None)
