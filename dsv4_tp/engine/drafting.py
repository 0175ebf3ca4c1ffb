"""How many tokens are drafted of whom, in the state that all ranks share: pure, like `lockstep`."""

from collections.abc import Sequence
from dataclasses import replace

from dsv4_tp.core import Request
from dsv4_tp.engine import pace as paces
from dsv4_tp.engine.state import Active, State
from dsv4_tp.engine.steps import MOST_ROWS, Decode, Feed


def timed(state: State, spent: int = 0) -> State:
    """The decode step before this one took so long, on the rank that waited least; 0: not told."""
    return replace(state, pace=paces.timed(state.pace, spent))


def wanted(state: State, step: Feed | Decode) -> tuple[State, tuple[int, ...]]:
    """How many tokens to draft of each of the step's requests, in its order."""
    decoding = max(1, len(state.rows))
    pace = paces.thought_over(state.pace, decoding, MOST_ROWS // decoding - 1)
    alive = {one.request.id: one for one in state.active}
    counts = (_drafts(state, alive.get(request.id), pace.depth) for request in step.requests)
    return replace(state, pace=pace), tuple(counts)


def drafted(state: State, step: Feed | Decode, drafts: Sequence[tuple[int, ...]]) -> State:
    """What was drafted of them."""
    by_id = {request.id: more for request, more in zip(step.requests, drafts, strict=True)}
    active = (replace(one, drafts=by_id.get(one.request.id, one.drafts)) for one in state.active)
    return replace(state, active=tuple(active))


def _drafts(state: State, active: Active | None, depth: int) -> int:
    """How many tokens of a request to draft: none that could not be told."""
    if active is None or active.suspects or not isinstance(request := active.request, Request):
        return 0
    made = len(active.tokens)
    rest = min(request.max_tokens - made, state.limits.context - len(request.prompt) - made)
    wish = depth if request.mtp is None else min(depth, request.mtp)
    return max(0, min(wish, rest - 1))
