"""What ranks tell each other in order to choose: their best candidates, in one flat packet.

int32: first the rows, those of equal `Layout` together; all ranks know the layouts from the
draws. Then the rank's own numbers, of which the least of all ranks' is wanted. Floats travel as
their bits. A rank with fewer ids than a row has room for fills it up with `_NO_ID`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import Span
from dsv4_tp.engine import sampling as rules
from dsv4_tp.engine.draws import Draw
from dsv4_tp.engine.sampling import Candidates, Heard

CANDIDATES = 64
_NO_ID = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """What a packet says of a row."""

    cuts: bool  # whether the draw cuts the vocabulary
    candidates: int
    alternatives: int | None  # None: no log-probabilities

    @classmethod
    def of(cls, draw: Draw) -> "Layout":
        """The layout of the row of this draw."""
        count = min(draw.sampling.top_k or CANDIDATES, CANDIDATES) if draw.cuts else 1
        return cls(draw.cuts, count, draw.sampling.logprobs)

    @property
    def columns(self) -> dict[str, int]:
        """The parts of a row in their order, and how many numbers each of them has."""
        count, more = self.candidates, self.alternatives
        cut = {"mass": 1, "logits": count} if self.cuts else {}
        asked = {} if more is None else {"log_sum": 1, "raws": count, "top": more, "top_ids": more}
        return {**cut, "scores": count, "ids": count, **asked}

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return sum(self.columns.values())


@dataclass(frozen=True, slots=True)
class Rows:
    """What this rank has for the rows of a step, float32 [B, len(span)] each."""

    raws: mx.array  # the model's own logits
    logits: mx.array  # with bias and penalties, and -inf where an id is not allowed
    scores: mx.array  # by `sampling.scored`


def packet(rows: Rows, draws: Sequence[Draw], *, span: Span, least: Sequence[int]) -> mx.array:
    """What this rank sends; `least` are its own numbers."""
    parts: list[mx.array] = []
    for layout, members in _groups(draws):
        # The usual step is one group, of which nothing needs to be picked.
        mine = rows if len(members) == len(draws) else _picked(rows, members)
        asked = [draws[row] for row in members]
        parts.append(_block(mine, asked, layout, span).flatten())
    return mx.concatenate([*parts, mx.array(list(least), dtype=mx.int32)])


def read_packets(
    packets: NDArray[np.int32], spans: Sequence[Span], draws: Sequence[Draw]
) -> tuple[list[Heard], list[int]]:
    """Packets [ranks, n] of ranks that hold these spans -> what they say of each row together.

    And of each of their own numbers the least.
    """
    heard: dict[int, Heard] = {}
    at = 0
    for layout, members in _groups(draws):
        for row in members:
            said = packets[:, at : at + layout.width]
            # A row may be nothing but -inf or NaN, see `sampling.is_number`.
            with np.errstate(invalid="ignore"):
                heard[row] = _heard(said, layout, spans, draws[row])
            at += layout.width
    return [heard[row] for row in range(len(draws))], packets[:, at:].min(axis=0).tolist()


def whole_candidates(planes: NDArray[np.float32]) -> Candidates:
    """Logits, scores and perhaps raw logits [2 or 3, V] of a row: every id is a candidate."""
    size = planes.shape[1]
    raws = planes[2] if len(planes) > 2 else planes[0, :0]
    found = Candidates(np.arange(size, dtype=np.int32), planes[0], planes[1], raws, sure=0)
    return found.ordered(_descending(planes[0]), sure=size, whole=True)


def _descending(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """The order from the highest value on, equals by index; as `_keys` has it.

    numpy sorts integers in a third of the time that a stable argsort of floats takes.
    """
    bits = (values + np.float32(0)).view(np.int32)
    ordered = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    return np.sort(np.arange(len(values)) - (ordered << 32)) & 0xFFFFFFFF


def _groups(draws: Sequence[Draw]) -> Iterator[tuple[Layout, list[int]]]:
    """The layouts of a packet in their order, each with its rows."""
    groups: dict[Layout, list[int]] = {}
    for row, draw in enumerate(draws):
        groups.setdefault(Layout.of(draw), []).append(row)
    return iter(groups.items())


def _picked(rows: Rows, members: list[int]) -> Rows:
    picks = mx.array(members)
    return Rows(rows.raws[picks], rows.logits[picks], rows.scores[picks])


def _block(rows: Rows, draws: Sequence[Draw], layout: Layout, span: Span) -> mx.array:
    """The rows of one layout, int32 [G, width]."""
    count, more = layout.candidates, layout.alternatives
    best = _best(rows.logits if layout.cuts else rows.scores, min(count, len(span)))
    parts = {"scores": _taken(rows.scores, best, count), "ids": _ids(best, count, span)}
    if layout.cuts:
        # Each row is summed alone: among others, MLX may add up in another order.
        masses = [rules.mass(row, draw) for row, draw in zip(rows.logits, draws, strict=True)]
        parts |= {"mass": _bits(masses), "logits": _taken(rows.logits, best, count)}
    if more is not None:
        first = _best(rows.raws, min(more, len(span)))
        parts |= {"log_sum": _bits([_log_sum(row) for row in rows.raws])}
        parts |= {"raws": _taken(rows.raws, best, count)}
        parts |= {"top": _taken(rows.raws, first, more), "top_ids": _ids(first, more, span)}
    return mx.concatenate([parts[name] for name in layout.columns], axis=1)


def _bits(numbers: Sequence[mx.array]) -> mx.array:
    return mx.stack(list(numbers))[:, None].view(mx.int32)


def _log_sum(row: mx.array) -> mx.array:
    return mx.logsumexp(row) if row.size else mx.array(-mx.inf)


def _best(values: mx.array, count: int) -> mx.array:
    """The indices of each row's `count` highest values in any order, the lowest of equals."""
    if count == values.shape[1]:
        return mx.broadcast_to(mx.arange(count), values.shape)
    if count == 1:
        return mx.argmax(values, axis=1, keepdims=True)  # the lowest index of equals
    return mx.argpartition(_keys(values), kth=count - 1, axis=1)[:, :count]


def _keys(values: mx.array) -> mx.array:
    """int64 numbers that are in order where the values are in reverse, equals by their index.

    Without the index, which of several equals are sent would be the sort's to choose, and the
    token would depend on the split.
    """
    bits = (values + 0.0).view(mx.int32)  # -0.0 becomes 0.0
    ordered = mx.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(mx.int64)
    return mx.arange(values.shape[1]) - (ordered << 32)


def _taken(values: mx.array, best: mx.array, count: int) -> mx.array:
    return _padded(mx.take_along_axis(values, best, axis=1), count, -mx.inf).view(mx.int32)


def _ids(best: mx.array, count: int, span: Span) -> mx.array:
    return _padded(best.astype(mx.int32) + span.start, count, _NO_ID)


def _padded(x: mx.array, count: int, fill: float) -> mx.array:
    missing = count - x.shape[1]
    return mx.pad(x, [(0, 0), (0, missing)], constant_values=fill) if missing else x


def _heard(packets: NDArray[np.int32], layout: Layout, spans: Sequence[Span], draw: Draw) -> Heard:
    """What the ranks' packets [ranks, width] of one row say together."""
    ends = np.cumsum(list(layout.columns.values()))[:-1]
    ints = dict(zip(layout.columns, np.split(packets, ends, axis=1), strict=True))
    said = {name: part.view(np.float32) for name, part in ints.items()}
    found, mass = _candidates(ints["ids"], said, spans), 0.0
    if layout.cuts:
        mass = rules.joined_mass(said["mass"][:, 0], said["logits"].max(axis=1), draw)
    if layout.alternatives is None:
        return Heard(found, mass)
    log_sum = float(np.logaddexp.reduce(said["log_sum"].ravel(), dtype=np.float64))
    top = _top(ints["top_ids"].ravel(), said["top"].ravel(), layout.alternatives)
    return Heard(found, mass, log_sum, tuple((token, raw - log_sum) for token, raw in top))


def _candidates(
    ids: NDArray[np.int32], said: Mapping[str, NDArray[np.float32]], spans: Sequence[Span]
) -> Candidates:
    """The candidates [ranks, K] of one row in one list; in order, if their logits were said."""
    held = ids != _NO_ID
    nothing = np.zeros(0, dtype=np.float32)
    logits = said["logits"][held] if "logits" in said else nothing
    raws = said["raws"][held] if "raws" in said else nothing
    found = Candidates(ids[held], logits, said["scores"][held], raws, sure=0)
    if not logits.size:
        return found
    order = np.lexsort((found.ids, -logits))
    owners = np.nonzero(held)[0][order]
    # What a rank has not sent comes after the last that it sent.
    unsent = [rank for rank, span in enumerate(spans) if len(span) > ids.shape[1]]
    ends = [int(np.flatnonzero(owners == rank)[-1]) + 1 for rank in unsent]
    return found.ordered(order, sure=min(ends, default=len(order)), whole=not unsent)


def _top(
    ids: NDArray[np.int32], raws: NDArray[np.float32], count: int
) -> Iterator[tuple[int, float]]:
    """The ids with the highest of these logits, and those logits; none that is -inf."""
    for each in np.lexsort((ids, -raws))[:count].tolist():
        if ids[each] != _NO_ID and raws[each] > -np.inf:
            yield int(ids[each]), float(raws[each])
