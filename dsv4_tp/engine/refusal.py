"""Which requests a model cannot serve, and the words that say so."""

from collections.abc import Callable
from dataclasses import dataclass

from dsv4_tp.config import MOST_DRAFTS
from dsv4_tp.core import Request, Sampling, ScoreRequest
from dsv4_tp.modelspec import ModelSpec

_MOST_LOGPROBS = 20


def _free(_tokens: int) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds every request, and all of them together."""

    vocab_size: int
    context: int  # most tokens of a sequence, prompt and generated
    batch: int = 1  # most requests at a time
    room_bytes: int = 0  # for the caches of all of them
    cache_bytes: Callable[[int], int] = _free  # of a sequence of so many tokens

    @classmethod
    def of(cls, spec: ModelSpec) -> "Limits":
        """The limits of a model that has a request to itself."""
        return cls(spec.vocab_size, spec.max_position_embeddings)


def need_bytes(request: Request | ScoreRequest, limits: Limits) -> int:
    """What the caches of a request may come to hold."""
    if isinstance(request, Request):
        return limits.cache_bytes(min(len(request.prompt) + request.max_tokens, limits.context))
    return len(request.rows) * limits.cache_bytes(len(request.rows[0]))


def is_whole(request: Request, generated: int, limits: Limits) -> bool:
    """Whether so many tokens are all that the request may have."""
    return generated == request.max_tokens or len(request.prompt) + generated == limits.context


def refusal(request: Request | ScoreRequest, limits: Limits) -> str:
    """Why the request is impossible; empty if it is not."""
    if isinstance(request, Request):
        return _generation(request, limits)
    return _scoring(request, limits)


def _generation(request: Request, limits: Limits) -> str:
    if not request.prompt:
        return "the prompt is empty; give at least one token"
    if len(request.prompt) >= limits.context:
        return (
            f"the prompt has {len(request.prompt)} tokens and the context is "
            f"{limits.context}; shorten it so that room for an answer is left"
        )
    if request.max_tokens < 1:
        return f"max_tokens is {request.max_tokens}; ask for at least 1"
    if request.form and not request.stop_ids:
        return "a text that is held to a form needs stop ids to end; the checkpoint names none"
    return (
        _named("prompt", _ids(request.prompt, limits))
        or _named("stop_ids", _ids(request.stop_ids, limits))
        or _named("told", _ids(request.told, limits) or _beyond(request, limits))
        or _named("form_after", _after(request, limits))
        or _between("mtp", request.mtp or 0, 0, MOST_DRAFTS)
        or _sampling(request.sampling, limits)
    )


def _beyond(request: Request, limits: Limits) -> str:
    """Why no such text can have been told before the request's end."""
    most = min(request.max_tokens, limits.context - len(request.prompt))
    if len(request.told) > most:
        return f"{len(request.told)} tokens, and the request may have {most}; raise its limit"
    stop = next((token for token in request.told[:-1] if token in request.stop_ids), None)
    return "" if stop is None else f"the text goes on behind token {stop}, which is a stop id"


def _scoring(request: ScoreRequest, limits: Limits) -> str:
    lengths = sorted({len(row) for row in request.rows})
    if len(lengths) != 1:
        return f"rows must be equally long, and at least one; their lengths are {lengths}"
    if lengths[0] < 2:
        return "a row needs at least 2 tokens: the first one is never predicted"
    if lengths[0] > limits.context:
        return f"a row has {lengths[0]} tokens and the context is {limits.context}"
    if request.chunk < 0:
        return f"chunk is {request.chunk}; it must be positive, or 0 for no chunks"
    if (need := need_bytes(request, limits)) > limits.room_bytes:
        return (
            f"{len(request.rows)} rows of {lengths[0]} tokens need {need} bytes of caches, and "
            f"{limits.room_bytes} are planned; score fewer rows at a time"
        )
    return next(filter(None, (_ids(row, limits) for row in request.rows)), "")


def _ids(ids: tuple[int, ...], limits: Limits) -> str:
    odd = next((token for token in ids if not 0 <= token < limits.vocab_size), None)
    if odd is None:
        return ""
    return f"token {odd} is not in the vocabulary (0 to {limits.vocab_size - 1})"


def _after(request: Request, limits: Limits) -> str:
    return "" if request.form_after is None else _ids((request.form_after,), limits)


def _named(field: str, error: str) -> str:
    return f"{field}: {error}" if error else ""


def _sampling(wish: Sampling, limits: Limits) -> str:
    fields = [
        _between("temperature", wish.temperature, 0, 100),
        _between("top_p", wish.top_p, 0, 1, above=True),
        "" if wish.top_k >= 0 else f"top_k is {wish.top_k}; it must be positive, or 0 for off",
        "" if 0 <= wish.seed < 2**64 else f"seed is {wish.seed}; it must fit in 64 bits, unsigned",
        _between("min_p", wish.min_p, 0, 1),
        _between("repetition_penalty", wish.repetition_penalty, 0.01, 100),
        _between("presence_penalty", wish.presence_penalty, -2, 2),
        _between("frequency_penalty", wish.frequency_penalty, -2, 2),
        _between("logprobs", wish.logprobs or 0, 0, _MOST_LOGPROBS),
        *(_bias(token, value, limits) for token, value in wish.logit_bias),
    ]
    return next(filter(None, fields), "")


def _bias(token: int, value: float, limits: Limits) -> str:
    return _named("logit_bias", _ids((token,), limits)) or _between(
        f"logit_bias of {token}", value, -100, 100
    )


def _between(name: str, value: float, least: float, most: float, *, above: bool = False) -> str:
    """`above`: the least itself is too little. No comparison holds for NaN."""
    if least <= value <= most and not (above and value == least):
        return ""
    lowest = f"above {least} and at most" if above else f"{least} to"
    return f"{name} is {value}; it must be {lowest} {most}"
