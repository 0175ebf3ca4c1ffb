"""The few collectives this project uses, chained and counted.

The only callers of `mx.distributed` beside `group`. They know arrays and ranks; what is
exchanged, and why, is their callers' business. In a group of one they do nothing and count
nothing.
"""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import numpy as np

from dsv4_tp.engine.outside import UNTOLD, Turns
from dsv4_tp.engine.steps import MOST_ROWS
from dsv4_tp.errors import RankFailure

_BACKENDS = ("[ring]", "[jaccl]")  # as their errors begin
_BEGIN = cast(Callable[..., None], mx.async_eval)
_EVALUATE = cast(Callable[..., None], mx.eval)


@dataclass(frozen=True, slots=True)
class Group:
    """This process among the ranks of its epoch; `handle` is None for a group of one."""

    rank: int = 0
    size: int = 1
    handle: mx.distributed.Group | None = None


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many collectives ran, and the payload bytes this rank put into them, one way."""

    collectives: int = 0
    wire_bytes: int = 0

    def __add__(self, more: "Traffic") -> "Traffic":
        """Both together."""
        return Traffic(self.collectives + more.collectives, self.wire_bytes + more.wire_bytes)

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        """What came since `earlier`."""
        return Traffic(self.collectives - earlier.collectives, self.wire_bytes - earlier.wire_bytes)


@dataclass(frozen=True, slots=True)
class Payload:
    """What one rank puts into one collective."""

    kind: str  # all_sum, all_min or all_gather
    dtype: str
    elements: int
    nbytes: int


class Ledger:
    """Counts every collective by what it carries."""

    def __init__(self) -> None:
        self.calls: Counter[Payload] = Counter()
        self.traffic = Traffic()  # everything counted so far

    def note(self, kind: str, x: mx.array) -> None:
        """One more collective of this kind carries `x`."""
        dtype = str(x.dtype).removeprefix("mlx.core.")
        self.calls[Payload(kind, dtype, x.size, x.nbytes)] += 1
        self.traffic += Traffic(1, x.nbytes)


class Collectives:
    """The collectives of one group, in the order they are called.

    All ranks must call the same ones in the same order with equal shapes, and `evaluate` what
    comes of them at the same places. Call them outside compiled functions only.
    """

    def __init__(self, group: Group | None = None, *, turns: Turns = UNTOLD) -> None:
        """`turns` is told when this rank waits, and for whom."""
        self.group = group or Group()
        self.turns = turns
        self.ledger = Ledger()
        self._last: mx.array | None = None
        self._parts: list[mx.array] | None = None
        self._begun = False
        self._beside: mx.Stream | None = None

    @property
    def rank(self) -> int:
        """This process, counted from 0."""
        return self.group.rank

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self.group.size

    def all_sum(self, x: mx.array) -> mx.array:
        """The sum of all ranks' `x` [..., D], in its dtype; bit-identical on all ranks.

        A row of a few does not depend on the others: of three ranks and more, the order in which a
        ring adds up depends on the shape. So few rows are gathered, and added by rank in float32.
        """
        x = self.alike(x)
        if self.size == 1:
            return x
        if self.size == 2 or x.size > MOST_ROWS * x.shape[-1]:
            return self._run("all_sum", mx.distributed.all_sum, x)
        total, *others = self.gather(x).astype(mx.float32)
        for other in others:
            total = total + other
        return total.astype(x.dtype)

    def alike(self, x: mx.array) -> mx.array:
        """`x`, of which every rank has computed all: it is watched, but not exchanged."""
        if self._parts is not None:
            self._parts.append(mx.isfinite(x).all())
        return x

    def put_together(self, x: mx.array) -> mx.array:
        """The sum of all ranks' integers `x`, of which at most one is not zero at each place."""
        assert not mx.issubdtype(x.dtype, mx.floating), f"{x.dtype} may be rounded"
        return x if self.size == 1 else self._run("all_sum", mx.distributed.all_sum, x)

    @contextmanager
    def watched(self) -> Generator[list[mx.array]]:
        """Whether what this rank has for sums meanwhile are numbers: scalars, in their order."""
        self._parts = parts = list[mx.array]()
        try:
            yield parts
        finally:
            self._parts = None

    def gather(self, x: mx.array) -> mx.array:
        """All ranks' `x` stacked by rank: [size, *x.shape]."""
        if self.size == 1:
            return x[None]
        return self._run("all_gather", mx.distributed.all_gather, x[None])

    def gather_columns(self, x: mx.array, widths: Sequence[int]) -> mx.array:
        """All ranks' `x` [..., widths[rank]] joined along the last axis: [..., sum(widths)]."""
        # Ranks must exchange equal shapes.
        missing = max(widths) - x.shape[-1]
        pieces = self.gather(mx.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, missing)]))
        held = [pieces[rank, ..., :width] for rank, width in enumerate(widths)]
        return mx.concatenate(held, axis=-1)

    def agree(self, number: int) -> int:
        """The lowest of all ranks' numbers; waits for them."""
        if self.size == 1:
            return number
        mine = mx.array([number], dtype=mx.int32)
        lowest = self._run("all_min", mx.distributed.all_min, mine)
        self.evaluate(lowest)
        return np.array(lowest, dtype=np.int32).item()

    def begin(self, *arrays: Any) -> None:
        """Has these arrays, or lists of them, computed while more is built; `evaluate` ends it.

        It may wait for other ranks, as a backend takes so much at once and no more.

        Raises RankFailure as `evaluate` does.
        """
        self._call(_BEGIN, arrays)

    def evaluate(self, *arrays: Any) -> None:
        """Computes these arrays, or lists of them, and waits for the ranks that have a part in it.

        Ranks come by here equally often, so one that has come by less often is the one that the
        others wait for. An error leaves it waiting: its rank gets no further.

        Raises RankFailure if the backend says that a peer is gone; often it says nothing and waits.
        """
        self._call(_EVALUATE, arrays)
        self._begun = False
        self.turns.turned()

    def _call(self, call: Callable[..., None], arrays: tuple[Any, ...]) -> None:
        if not self._begun:
            self._begun = True
            self.turns.turned()
        self.turns.called()
        try:
            call(*arrays)
        except RuntimeError as error:
            if not str(error).startswith(_BACKENDS):
                raise
            raise RankFailure(f"another rank is gone, or the way to it: {error}") from error
        self.turns.called()

    def _run(self, kind: str, collective: Callable[..., mx.array], x: mx.array) -> mx.array:
        self.ledger.note(kind, x)
        if self._last is not None:
            # Lazy evaluation may reorder what does not depend on each other.
            x = cast(mx.array, mx.depends(x, self._last))
        self._last = collective(x, group=self.group.handle, stream=self._stream(x))
        return self._last

    def _stream(self, x: mx.array) -> mx.Stream | None:
        """What takes long goes beside what is computed meanwhile, on a CPU too."""
        if x.size <= MOST_ROWS * x.shape[-1]:
            return None
        self._beside = self._beside or mx.new_stream(mx.Device(mx.cpu))
        return self._beside
