"""Requests whose texts are held to a schema: what each may go on with, and how that can fail."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from dsv4_tp.core import FinishReason, Request, ScoreRequest
from dsv4_tp.engine.masks import packed
from dsv4_tp.engine.steps import Ended
from dsv4_tp.errors import InputError, RequestError


class Guide(Protocol):
    """Knows one schema."""

    def allowed(self, generated: tuple[int, ...]) -> bytes | None:
        """Which ids may follow these, as `Draw.allowed` has it.

        Asked about one beginning it says the same on every rank, whatever it was asked before.
        Raises InputError, then too on every rank, if it cannot say.
        """
        ...


GuideFor = Callable[[Request], Guide]


def no_guides(request: Request) -> Guide:
    """Raises RequestError: nobody knows this model's words."""
    raise RequestError("json_schema: this engine was started without a tokenizer")


class Guided:
    """One request, whether it has a schema or not.

    A guide that fails leaves the request nothing but to stop; so it ends in step with all ranks.
    """

    def __init__(self, request: Request | ScoreRequest, guide_for: GuideFor) -> None:
        self._request = request
        self._guide_for = guide_for
        self._guide: Guide | None = None
        self._errors: dict[int, str] = {}  # by the number of tokens that it was asked about

    def allowed(self, generated: tuple[int, ...]) -> bytes | None:
        """Which ids may follow these; None: all."""
        request = self._request
        if not isinstance(request, Request) or not request.json_schema:
            return None
        self._errors.pop(len(generated), None)  # it was about a draft
        try:
            self._guide = self._guide or self._guide_for(request)
            return self._guide.allowed(generated)
        except InputError as error:
            self._errors[len(generated)] = str(error)
            return packed(request.stop_ids)

    def told(self, ended: Ended) -> Ended:
        """The end of the request, with what went wrong if it had to stop for that."""
        error = self._errors.get(ended.generated)
        if error is None or ended.reason is not FinishReason.STOP:
            return ended
        return replace(ended, reason=FinishReason.CANCELLED, error=error)
