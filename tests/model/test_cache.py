"""A layer's memory after any schedule is, bit for bit, that of the tokens that survived it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.core import CacheRows
from dsv4_tp.model.cache import LayerCache
from dsv4_tp.model.compressor import Compressor
from dsv4_tp.model.forms import Forms
from dsv4_tp.model.rope import Rope
from dsv4_tp.model.rows import own
from dsv4_tp.rules import REWIND
from tests.specs import TINY

WINDOW, HEAD = 24, TINY.head_dim
WIDTH = 4 * HEAD  # of a token
RATIOS = (0, 4, 128)
SIZES = (1, 1, 1, 2, 3, 4, 5, 23, 24, 25, 127, 128, 129, 700, 4096)


class Layer:
    """One layer's memory, fed by projections that treat a row alike in every chunk."""

    def __init__(
        self, ratio: int, cache: LayerCache | None = None, forms: Forms | None = None
    ) -> None:
        self.cache = cache or LayerCache(WINDOW, ratio, forms)
        self.rope = Rope(TINY, compressed=True)
        self.compressors = [_compressor(ratio, seed) for seed in range({0: 0, 4: 2, 128: 1}[ratio])]

    def append(self, tokens: np.ndarray) -> None:
        x = mx.array(tokens)
        starts = self.cache.starts(x.shape[0])
        self.cache.extend(x[..., :HEAD])
        for place, compress in enumerate(self.compressors):
            pools = [memory.pools[place] for memory in self.cache.memories]
            compress(x, starts, pools, self.rope)
        mx.eval(self.cache.state)

    @property
    def rewindable(self) -> tuple[int, ...]:
        return self.cache.rewindable


def _compressor(ratio: int, seed: int) -> Compressor:
    made, keys = Compressor(TINY, ratio, HEAD), mx.random.split(mx.random.key(seed), 2)
    made.ape = mx.random.normal(made.ape.shape, key=keys[0])
    made.norm.weight = mx.random.normal((HEAD,), key=keys[1])
    width = made.ape.shape[1]
    made.wkv, made.wgate = lambda x: x[..., :width], lambda x: 3 * x[..., -width:]
    return made


def kept(cache: LayerCache) -> list[np.ndarray]:
    """All that counts in the memory of one sequence."""
    (memory,), (position,) = cache.memories, cache.positions
    found = [memory.ring.read(position, min(WINDOW - 1, position))]
    for pool in memory.pools:
        found.append(pool.tail.read(position, min(pool.reach, position)))
        found.append(pool.rows.read(pool.complete(position)))
    return [np.array(rows) for rows in found if rows is not None]


def straight(ratio: int, tokens: np.ndarray, forms: Forms) -> list[np.ndarray]:
    layer = Layer(ratio, forms=forms)
    layer.append(tokens[None])
    return kept(layer.cache)


def differences(ratio: int, cache: LayerCache, tokens: np.ndarray) -> int:
    assert cache.positions == (len(tokens),)
    pairs = list(zip(kept(cache), straight(ratio, tokens, cache.forms), strict=True))
    return sum(not np.array_equal(one, other) for one, other in pairs)


@dataclass
class Batch:
    """Sequences in one memory, and what each of them consists of."""

    layer: Layer
    tokens: list[np.ndarray]
    saved: list[tuple[LayerCache, list[np.ndarray]]] = field(default_factory=list)

    def append(self, rng: np.random.Generator, count: int) -> None:
        new = rng.standard_normal((len(self.tokens), count, WIDTH), np.float32)
        self.layer.append(new)
        self.tokens = [np.concatenate(pair) for pair in zip(self.tokens, new, strict=True)]

    def rewind(self, wanted: list[int]) -> None:
        most = self.layer.rewindable
        counts = [n % (top + 1) for n, top in zip(wanted, most, strict=False)]
        self.layer.cache.rewind(counts)
        pairs = zip(self.tokens, counts, strict=True)
        self.tokens = [tokens[: len(tokens) - n] for tokens, n in pairs]

    def part_and_join(self, order: list[int]) -> None:
        """Some of the sequences, some maybe twice, in another order."""
        chosen = [number % len(self.tokens) for number in order]
        cache = self.layer.cache
        self.layer.cache = cache.merged([cache.of(n).copy() for n in chosen])
        self.tokens = [self.tokens[n] for n in chosen]

    def save(self) -> None:
        self.saved.append((self.layer.cache.copy(), list(self.tokens)))

    def restore(self, number: int) -> None:
        if self.saved:
            snapshot, tokens = self.saved[number % len(self.saved)]
            self.layer.cache, self.tokens = snapshot.copy(), list(tokens)


few = st.lists(st.integers(0, REWIND), min_size=3, max_size=3)
ops = st.one_of(
    st.tuples(st.just("append"), st.sampled_from(SIZES)),
    st.tuples(st.just("append"), st.integers(1, 40)),
    st.tuples(st.just("rewind"), few),
    st.tuples(st.just("part_and_join"), st.lists(st.integers(0, 2), min_size=1, max_size=3)),
    st.tuples(st.just("save")),
    st.tuples(st.just("restore"), st.integers(0, 3)),
)


def run_schedule(
    ratio: int,
    lengths: list[int],
    schedule: list[tuple],
    seed: int,
    rows: CacheRows = CacheRows.EXACT,
) -> Batch:
    nothing, forms = np.zeros((0, WIDTH), np.float32), Forms.of(TINY, rows)
    alone = [Batch(Layer(ratio, forms=forms), [nothing]) for _ in lengths]
    return follow(alone, lengths, schedule, seed)


def follow(alone: list[Batch], lengths: list[int], schedule: list[tuple], seed: int) -> Batch:
    """These sequences, once each has its length, as one batch through the schedule."""
    rng = np.random.default_rng(seed)
    for one, length in zip(alone, lengths, strict=True):
        one.append(rng, length)
    batch = alone[0]
    batch.layer.cache = batch.layer.cache.merged([one.layer.cache for one in alone])
    batch.tokens = [one.tokens[0] for one in alone]
    for name, *arguments in schedule:
        if name == "append":
            batch.append(rng, *arguments)
        else:
            getattr(batch, name)(*arguments)
    return batch


@pytest.mark.parametrize("rows", CacheRows)
@pytest.mark.parametrize("ratio", RATIOS)
@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.sampled_from((1, 2, 3, 5, 23, 130, 259)), min_size=1, max_size=3),
    schedule=st.lists(ops, min_size=1, max_size=12),
    seed=st.integers(0, 1000),
)
def test_any_schedule_leaves_what_one_append_does(ratio, lengths, schedule, seed, rows) -> None:
    batch = run_schedule(ratio, lengths, schedule, seed, rows)
    for number, tokens in enumerate(batch.tokens):
        if len(tokens):
            assert differences(ratio, batch.layer.cache.of(number), tokens) == 0


@pytest.mark.parametrize("ratio", RATIOS)
def test_more_than_is_kept_cannot_be_taken_back(ratio: int) -> None:
    layer = Layer(ratio)
    layer.append(np.ones((1, 100, WIDTH), np.float32))
    assert layer.cache.rewindable == (REWIND,)
    layer.cache.rewind([REWIND - 1])
    assert layer.cache.rewindable == (1,)
    with pytest.raises(ValueError, match=r"\[2\] tokens back, \[1\] are kept"):
        layer.cache.rewind([2])
    layer.append(np.ones((1, REWIND, WIDTH), np.float32))
    assert layer.cache.rewindable == (REWIND,)


def test_rewinding_to_the_start_and_a_short_sequence() -> None:
    layer = Layer(4)
    layer.append(np.ones((1, 3, WIDTH), np.float32))
    assert layer.cache.rewindable == (3,)
    layer.cache.rewind([3])
    tokens = np.random.default_rng(0).standard_normal((9, WIDTH), np.float32)
    layer.append(tokens[None])
    assert differences(4, layer.cache, tokens) == 0


def test_a_snapshot_is_not_touched_by_what_follows() -> None:
    batch = run_schedule(4, [30], [("save",), ("append", 50)], 0)
    snapshot, tokens = batch.saved[0]
    assert differences(4, snapshot, tokens[0]) == 0


@pytest.mark.parametrize("ratio", [4, 128])
def test_a_store_grows_by_little(ratio: int) -> None:
    layer = Layer(ratio)
    for _ in range(30):
        layer.append(np.ones((1, 777, WIDTH), np.float32))
        (position,) = layer.cache.positions
        for pool in layer.cache.memories[0].pools:
            assert pool.rows.rows.shape[1] <= pool.complete(position) * 33 / 32 + 128


def test_sequences_join_and_leave_without_a_row_being_moved() -> None:
    """Nothing is allocated, and what is fed to the batch is fed to the sequences."""
    alone = [Layer(4) for _ in range(3)]
    for layer, count in zip(alone, (40, 4000, 700), strict=True):
        layer.append(np.ones((1, count, WIDTH), np.float32))
    assert moved_bytes(lambda: LayerCache.merged([layer.cache for layer in alone])) == 0
    batch = Layer(4, LayerCache.merged([layer.cache for layer in alone]))
    batch.append(np.ones((3, 1, WIDTH), np.float32))
    assert batch.cache.positions == (41, 4001, 701)
    assert batch.cache.nbytes == sum(layer.cache.nbytes for layer in alone)
    left = Layer(4, batch.cache.of(1))
    # It completes a window, whose rows are written in place.
    longest = left.cache.memories[0].pools[0].rows.rows.nbytes
    assert moved_bytes(lambda: left.append(np.ones((1, 3, WIDTH), np.float32))) < longest / 2
    assert alone[1].cache.positions == (4004,)


def test_rows_that_are_moved_are_seen() -> None:
    """As a batch of one array for all its sequences would have it."""
    layer = Layer(4)
    layer.append(np.ones((1, 4000, WIDTH), np.float32))
    rows = layer.cache.memories[0].pools[0].rows.rows
    assert moved_bytes(lambda: mx.eval(mx.concatenate([rows, rows]))) >= 2 * rows.nbytes


def moved_bytes(action: Callable[[], object]) -> int:
    """The most memory that MLX holds meanwhile beside what it held before."""
    mx.synchronize()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    result = action()
    mx.eval(result.state if isinstance(result, LayerCache) else [])
    mx.synchronize()
    return max(mx.get_peak_memory() - before, 0)


def test_a_copy_holds_no_more_than_its_rows() -> None:
    before = mx.get_active_memory()
    rows = mx.ones((1, 1 << 16, 64))
    few = own(rows[:, :64])
    mx.eval(rows, few)
    del rows
    assert mx.get_active_memory() - before < 2 * few.nbytes  # of 1,024 times as many


# Planted mistakes: each must be seen.


def test_a_lost_overlap_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = run_schedule(4, [30], [("append", 5)], 0)
    monkeypatch.setattr(Compressor, "_with_previous", _own_window_twice)
    assert differences(4, batch.layer.cache, batch.tokens[0]) > 0


def _own_window_twice(self: Compressor, windows: mx.array) -> mx.array:
    own = windows[:, 1:]
    return mx.concatenate([own[..., : self.head], own[..., self.head :]], axis=2)


def test_a_snapshot_one_row_short_is_seen() -> None:
    batch = run_schedule(4, [30], [("save",)], 0)
    snapshot, tokens = batch.saved[0]
    rows = snapshot.memories[0].pools[0].rows
    rows.rows = mx.concatenate([rows.rows[:, :-1], mx.zeros_like(rows.rows[:, :1])], axis=1)
    assert differences(4, snapshot, tokens[0]) > 0


def test_a_stale_pool_row_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The row of a window that was taken back stays if its number is not written again."""
    batch = run_schedule(4, [32], [("rewind", [2, 0, 0])], 0)
    stale = batch.layer.cache.pools[0].rows.rows[:, 7:8]
    batch.append(np.random.default_rng(1), 2)
    assert differences(4, batch.layer.cache, batch.tokens[0]) == 0
    batch.layer.cache.pools[0].rows.rows[:, 7:8] = stale
    assert differences(4, batch.layer.cache, batch.tokens[0]) > 0
