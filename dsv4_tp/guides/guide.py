"""Which tokens a text that is held to a form may go on with."""

from collections.abc import Sequence
from math import ceil

from llguidance import LLMatcher

from dsv4_tp.errors import RequestError
from dsv4_tp.guides.form import LIMITS, grammar, refusal
from dsv4_tp.guides.vocabulary import Vocabulary


class Guide:
    """One text and its form.

    Asked about any beginning of the text, in any order, it says the same: drafts may be asked
    about that are not taken. It is quick where the next question is about nearly the same tokens.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        form: str,
        stop_ids: Sequence[int],
        *,
        after: int | None = None,
    ) -> None:
        """`after`: only what follows the first of this token is held to the form.

        Raises RequestError if texts cannot be held to it.
        """
        self._vocabulary = vocabulary
        self._form = form
        self._grammar = grammar(form)
        self._stop_ids = [token for token in stop_ids if token < vocabulary.size]
        self._after = after
        self._begin()

    def allowed(self, generated: tuple[int, ...]) -> bytes | None:
        """The ids that may follow these: a bit for each, eight in a byte, the lowest bit first.

        Where the text may end the stop ids are among them, and where it must there are no others.
        None if `generated` itself is against the form: only a draft is, which is not taken.
        Before `after` has come all may follow but what would end the text.

        Raises:
            RequestError: the form has become too much for the library, or nothing may follow.
        """
        if self._after is not None:
            if self._after not in generated:
                return self._unended()
            generated = generated[generated.index(self._after) + 1 :]
        try:
            return self._mask() if self._goes_to(generated) else None
        except RequestError:
            self._begin()  # the library does not leave its errors
            raise

    def _begin(self) -> None:
        self._taken: tuple[int, ...] = ()
        self._matcher = LLMatcher(
            self._vocabulary.tokens, self._grammar, log_level=0, limits=LIMITS
        )
        self._check()

    def _goes_to(self, generated: tuple[int, ...]) -> bool:
        """Takes these tokens, and gives others back; stops before the first that may not be."""
        same = _common(self._taken, generated)
        if same < len(self._taken):
            self._matcher.rollback(len(self._taken) - same)
        # The library's end is a token to it, and would have to be rolled back otherwise.
        ends = (n for n, token in enumerate(generated) if token == self._vocabulary.marker)
        rest = generated[same : next(ends, len(generated))]
        done = same + self._matcher.try_consume_tokens(list(rest))
        self._taken = generated[:done]
        self._check()
        return done == len(generated)

    def _mask(self) -> bytes:
        mask = bytearray(self._matcher.compute_bitmask())
        self._check()
        _set(mask, self._vocabulary.marker, to=False)
        if self._matcher.is_accepting():
            for token in self._stop_ids:
                _set(mask, token, to=True)
        if not any(mask):
            raise refusal(self._form, "no token can follow what has been generated")
        return bytes(mask)

    def _unended(self) -> bytes:
        mask = bytearray(b"\xff" * ceil(self._vocabulary.size / 8))
        for token in self._stop_ids:
            _set(mask, token, to=False)
        return bytes(mask)

    def _check(self) -> None:
        if self._matcher.is_error():
            raise refusal(self._form, self._matcher.get_error())


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many tokens both begin with."""
    if other[: len(one)] == one:
        return len(one)
    return next(n for n, token in enumerate(one) if n == len(other) or token != other[n])


def _set(mask: bytearray, token: int, *, to: bool) -> None:
    place, bit = divmod(token, 8)
    mask[place] = mask[place] | 1 << bit if to else mask[place] & ~(1 << bit)
