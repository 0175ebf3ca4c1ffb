"""What a layer remembers of a sequence: the last window's rows and the pools of compressed rows.

Rows are appended any number at a time; the state after n tokens does not depend on how they
were cut into calls. Positions are baked into the rows, so their order only serves the masks.
"""

from collections.abc import Iterable

import mlx.core as mx


class Pool:
    """The compressed rows of one compressor and the tokens that no row covers yet.

    rows         [B, T, head]               one per complete window
    open_kv      [B, tokens, width]  fp32   the window that is still open
    open_score   likewise, with the position embedding added
    last_kv      [B, ratio, width]   fp32   the last complete window (ratio 4 pools over it again)
    last_score   likewise; minus infinity before the first window
    """

    def __init__(self) -> None:
        self.rows: mx.array | None = None
        self.open_kv: mx.array | None = None
        self.open_score: mx.array | None = None
        self.last_kv: mx.array | None = None
        self.last_score: mx.array | None = None

    @property
    def length(self) -> int:
        """Complete windows so far."""
        return 0 if self.rows is None else self.rows.shape[1]

    def append(self, rows: mx.array) -> None:
        """Adds rows [B, n, head] of n newly completed windows."""
        self.rows = rows if self.rows is None else mx.concatenate([self.rows, rows], axis=1)

    def arrays(self) -> list[mx.array]:
        """What is held."""
        held = (self.rows, self.open_kv, self.open_score, self.last_kv, self.last_score)
        return [array for array in held if array is not None]


class LayerCache:
    """One layer's memory; `offset` counts the tokens it has seen."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.offset = 0
        self.rows: mx.array | None = None  # [B, up to window - 1, head_dim]
        self.pool = Pool()
        self.index_pool = Pool()

    def extend(self, kv: mx.array) -> mx.array:
        """Appends kv [B, L, head_dim]; returns the earlier rows still in reach, then kv."""
        rows = kv if self.rows is None else mx.concatenate([self.rows, kv], axis=1)
        # The next token sees itself and the window - 1 rows before it.
        self.rows = rows[:, max(rows.shape[1] - self.window + 1, 0) :]
        self.offset += kv.shape[1]
        return rows

    @property
    def state(self) -> list[mx.array]:
        """Every array held; evaluate them with each step, or the graph grows without end."""
        rows = [] if self.rows is None else [self.rows]
        return rows + self.pool.arrays() + self.index_pool.arrays()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays held."""
        return sum(array.nbytes for array in self.state)

    def empty(self) -> bool:
        """Whether no token was seen yet."""
        return self.offset == 0

    def is_trimmable(self) -> bool:
        """No: rows that left the window and windows that closed cannot be undone."""
        return False


class Cache(list[LayerCache]):
    """The memory of all layers, as the list mlx-lm's tools expect."""

    def __init__(self, layers: Iterable[LayerCache]) -> None:
        super().__init__(layers)

    @property
    def position(self) -> int:
        """Tokens seen so far: the position of the next one."""
        return self[0].offset

    def arrays(self) -> list[mx.array]:
        """Every array held by any layer."""
        return [array for layer in self for array in layer.state]
