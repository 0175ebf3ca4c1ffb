"""Requests whose texts are held to a form: what each may go on with, and how that can fail."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from dsv4_tp.core import FinishReason, Request, ScoreRequest
from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.engine.masks import packed
from dsv4_tp.engine.outside import Progress
from dsv4_tp.engine.steps import Ended
from dsv4_tp.errors import InputError, RequestError


class Guide(Protocol):
    """Knows one form."""

    def allowed(self, generated: tuple[int, ...]) -> bytes | None:
        """Which ids may follow these, as `Draw.allowed` has it.

        Asked about one beginning it says the same on every rank, whatever it was asked before.
        Raises InputError, then too on every rank, if it cannot say.
        """
        ...


GuideFor = Callable[[Request], Guide]


def no_guides(request: Request) -> Guide:
    """Raises RequestError: nobody knows this model's words."""
    raise RequestError("this engine was started without a tokenizer, and holds texts to no form")


def compiled(
    request: Request | ScoreRequest,
    guide_for: GuideFor,
    progress: Progress,
    collectives: Collectives,
) -> "Guided":
    """The request with its guide, made in a phase of its own: it may take much longer than a step.

    All ranks are in it until the last one is done, so that none waits for it in its next step.
    """
    guided = Guided(request)
    if guided.asked:
        progress.phase("compiling")
        guided.compile(guide_for)
        collectives.agree(0)
        progress.phase("prefill")
    return guided


class Guided:
    """One request, whether it has a form or not.

    A guide that fails leaves the request nothing but to stop; so it ends in step with all ranks.
    """

    def __init__(self, request: Request | ScoreRequest) -> None:
        self._request = request
        self._guide: Guide | None = None
        self._failure: InputError | None = None  # why there is none
        self._errors: dict[int, str] = {}  # by the number of tokens that it was asked about

    @property
    def asked(self) -> Request | None:
        """The request, if it has a form."""
        request = self._request
        return request if isinstance(request, Request) and request.form else None

    def compile(self, guide_for: GuideFor) -> None:
        """Makes the guide, which may take seconds."""
        assert self.asked, "a request without a form has no guide"
        try:
            self._guide = guide_for(self.asked)
        except InputError as error:
            self._failure = error

    def allowed(self, generated: tuple[int, ...]) -> bytes | None:
        """Which ids may follow these; None: all."""
        if self.asked is None:
            return None
        self._errors.pop(len(generated), None)  # it was about a draft
        try:
            return self._compiled().allowed(generated)
        except InputError as error:
            self._errors[len(generated)] = str(error)
            return packed(self.asked.stop_ids)

    def _compiled(self) -> Guide:
        if self._failure:
            raise self._failure
        assert self._guide is not None, "a form is compiled before anything is drawn"
        return self._guide

    def told(self, ended: Ended) -> Ended:
        """The end of the request, with what went wrong if it had to stop for that."""
        error = self._errors.get(ended.generated)
        if error is None or ended.reason is not FinishReason.STOP:
            return ended
        return replace(ended, reason=FinishReason.CANCELLED, error=error)
