"""What a step is asked to choose, and what it chose. Knows no array and no rank."""

from dataclasses import dataclass

from dsv4_tp.core import Request, Sampling


@dataclass(frozen=True, slots=True)
class History:
    """The ids before the token, given and generated ones apart: penalties count them unlike."""

    prompt: tuple[int, ...] = ()
    generated: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """One token to choose: how, and at which position of its sequence.

    The token depends on this and on the logits, never on other draws of the step.
    """

    sampling: Sampling
    position: int
    history: History = History()
    allowed: bytes | None = None  # a bit for each id, the lowest of a byte first; None: all are

    @property
    def cuts(self) -> bool:
        """Whether top-k, top-p or min-p restrict which ids may be chosen."""
        wish = self.sampling
        return wish.temperature > 0 and (wish.top_k > 0 or wish.top_p < 1 or wish.min_p > 0)


def draw_of(request: Request, tokens: tuple[int, ...], allowed: bytes | None = None) -> Draw:
    """The token that follows a request's prompt and these of its answer."""
    position = len(request.prompt) + len(tokens)
    return Draw(request.sampling, position, History(request.prompt, tokens), allowed)


@dataclass(frozen=True, slots=True)
class Choice:
    """The token of one draw; None if the logits are no numbers.

    Where the draw asks for log-probabilities: the token's, and those of the most likely ids, the
    likeliest first and equals by id. Ids of probability 0 are left out. All of them are of the
    model's own distribution, before bias, penalties, temperature and filters.
    """

    token: int | None
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
