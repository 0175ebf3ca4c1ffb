"""What an agent and its ranks write, kept in bounded files, and read from there by whoever asks.

Until a coordinator says which launch this is, they lie in the agent's own directory, which is
removed at its end; after that where launches are remembered.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path

from dsv4_tp.config.environment import state_dir
from dsv4_tp.history import (
    Piece,
    Segments,
    Source,
    ends_at,
    host_folder,
    open_launch,
    read_piece,
    sources,
)
from dsv4_tp.log import log
from dsv4_tp.v1.types_pb2 import LogChoice, LogPiece, LogPlace

_AGENT_BYTES = 2 << 20
_RANK_BYTES = 4 << 20  # in one epoch
_EPOCHS = 8  # whose logs are kept
_PIECE_BYTES = 64 << 10
_LOOK_S = 0.2  # for news, while somebody follows


class Records:
    """The logs of this host."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the agent's own."""
        self._folder = folder
        self._own = Segments(folder, Source().stem, limit_bytes=_AGENT_BYTES)
        self._keeping = ExitStack()
        self._launch = ""
        self._taken = False

    def take_over(self) -> None:
        """What this process prints goes to its log from now on."""
        self._taken = True
        self.turn()

    def turn(self) -> None:
        """To be called now and then: a log that this process prints to is kept within its bound."""
        if not self._taken:
            return
        handle = self._own.handle()
        if not os.path.sameopenfile(handle, 2):
            os.dup2(handle, 1)
            os.dup2(handle, 2)

    def settle(self, launch: str, host: str) -> None:
        """Keep them beyond the agent's end; once is enough. Where that cannot be, they stay.

        Raises:
            PreflightError: these are no names.
        """
        if not launch or launch == self._launch:
            return
        folder = host_folder(state_dir(), launch, host)
        try:
            self._keeping.enter_context(open_launch(state_dir(), launch))
            folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            log("logs-not-kept", folder=folder, error=error)
            return
        said = read_piece(self._folder, Source().stem, 0, _AGENT_BYTES)
        self._own.close()
        self._launch, self._folder = launch, folder
        self._own = Segments(folder, Source().stem, limit_bytes=_AGENT_BYTES)
        self._own.write(said.data)
        self.turn()

    def rank(self, epoch: int, rank: int) -> Segments:
        """The log of a rank that is about to start; those of epochs long ago are dropped."""
        for source in sources(self._folder):
            if source.rank is not None and source.epoch <= epoch - _EPOCHS:
                for file in self._folder.glob(f"{source.stem}.*"):
                    file.unlink(missing_ok=True)
        return Segments(self._folder, Source(epoch, rank).stem, limit_bytes=_RANK_BYTES)

    async def tail(self, choice: LogChoice, left: asyncio.Event) -> AsyncIterator[LogPiece]:
        """What is chosen, piece by piece, each log in its order; to follow ends when `left` is set.

        No writer waits for a reader: one that is slow misses what is dropped, and is told so.
        """
        offsets = {_source(place): place.offset for place in choice.after}
        while True:
            over = left.is_set()
            for source in _chosen(self._folder, choice):
                if source not in offsets:
                    offsets[source] = _begin(self._folder, source, choice.most_bytes)
                while (piece := await self._read(source, offsets[source])).data:
                    offsets[source] = piece.end
                    yield _piece_to_proto(source, piece)
            if over or not choice.follow:
                return
            await asyncio.sleep(_LOOK_S)

    async def _read(self, source: Source, since: int) -> Piece:
        # Beside the loop, for a disk may be slow and ranks are judged on time.
        return await asyncio.to_thread(read_piece, self._folder, source.stem, since, _PIECE_BYTES)


def _chosen(folder: Path, choice: LogChoice) -> list[Source]:
    """Where a rank or an epoch is named, the agent's own log is not meant."""
    found = sources(folder)
    if choice.HasField("rank"):
        found = [source for source in found if source.rank == choice.rank]
    if choice.HasField("epoch"):
        found = [source for source in found if source.epoch == choice.epoch]
    return found


def _begin(folder: Path, source: Source, most_bytes: int) -> int:
    if not most_bytes:
        return 0
    return max(0, ends_at(folder, source.stem) - most_bytes)


def _source(place: LogPlace) -> Source:
    return Source(place.epoch, place.rank) if place.HasField("rank") else Source()


def _piece_to_proto(source: Source, piece: Piece) -> LogPiece:
    place = LogPlace(epoch=source.epoch, rank=source.rank, offset=piece.offset)
    return LogPiece(place=place, data=piece.data, missed_bytes=piece.missed)
