"""What every answer to a request can do, whichever API's words it is in."""

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from typing import Any

from dsv4_tp.errors import Dsv4Error
from dsv4_tp.serving.choices import Pieces
from dsv4_tp.serving.failures import told

Json = dict[str, Any]


class Wire:
    """How a stream is written: objects, then [DONE]; silence is a comment."""

    ending = b"data: [DONE]\n\n"

    def failure(self, error: Dsv4Error) -> Json:
        """What it tells last if it fails on the way."""
        return told(error)

    def silence(self) -> bytes:
        """What it tells when it has long told nothing."""
        return b": keep-alive\n\n"

    def event(self, one: Json) -> bytes:
        """The object as it is sent."""
        return f"data: {json.dumps(one, ensure_ascii=False, separators=(',', ':'))}\n\n".encode()


class Answers(Wire, ABC):
    """The answers to one request, streamed or whole."""

    @abstractmethod
    async def whole(self, pieces: Pieces) -> Json:
        """All of them."""

    @abstractmethod
    def chunks(self, pieces: Pieces) -> AsyncGenerator[Json]:
        """As they come."""


class Named(Answers):
    """Those whose events have names, which are the objects' types; the last one tells the end."""

    ending = b""

    def event(self, one: Json) -> bytes:
        """The object as it is sent, under its name."""
        return f"event: {one['type']}\n".encode() + super().event(one)
