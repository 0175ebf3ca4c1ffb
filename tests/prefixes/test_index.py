"""What is kept, found and given up, decided without any array."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.prefixes import Entry, Index, Match, digest_of, find, is_border, used, with_entries
from dsv4_tp.prefixes.index import Drop, Piece, add, draft

REST, ROW = 1000, 10  # bytes


def ids(length: int, *, branch: int = 0, at: int = 0) -> tuple[int, ...]:
    """0, 1, 2, ...; from `at` on those of another branch."""
    return tuple(token + 10_000 * branch * (token >= at) for token in range(length))


def drafted(index: Index, tokens: tuple[int, ...], *trail: Match, back: int = 16) -> Entry:
    entry = draft(index, tokens, back=back, trail=trail)
    return replace(entry, rest_bytes=REST, rows_bytes=ROW * (entry.length - entry.base))


def index_of(*sequences: tuple[int, ...], budget: int = 1 << 40) -> Index:
    """Each goes on from what it matches."""
    index = Index(budget)
    for tokens in sequences:
        match = find(index, tokens)
        grown = add(index, drafted(index, tokens, *([match] if match else [])))
        index = grown[0] if grown else index
    return index


def test_the_longest_beginning_is_found() -> None:
    index = index_of(ids(100), ids(300), ids(200, branch=1, at=100))
    assert find(index, ids(400)) == Match(digest_of(ids(300)), 300)
    assert find(index, ids(250, branch=1, at=100)).length == 200
    assert find(index, ids(250, branch=2, at=100)).length == 100
    assert find(index, ids(250, branch=2, at=80)) is None


@pytest.mark.parametrize(("at", "length"), [(300, 300), (299, 299), (285, 285), (284, 284)])
def test_the_last_tokens_of_a_snapshot_may_differ(at: int, length: int) -> None:
    index = index_of(ids(300))
    assert find(index, ids(400, branch=1, at=at)).length == length


def test_no_further_than_can_be_taken_back() -> None:
    assert find(index_of(ids(300)), ids(400, branch=1, at=283)) is None


def test_one_token_of_the_prompt_is_left_to_feed() -> None:
    """Without one there would be no logits to choose from."""
    assert find(index_of(ids(300)), ids(300)).length == 299
    assert find(index_of(ids(300)), ids(284)) is None


def test_short_prompts_are_fed_again() -> None:
    index = index_of(ids(63), ids(64))
    assert list(index.entries) == [digest_of(ids(64))]


def test_a_shared_beginning_is_held_once() -> None:
    index = index_of(ids(1000), ids(1100), ids(1200, branch=1, at=1000))
    assert index.nbytes == 3 * REST + 1300 * ROW


def test_the_least_recently_used_goes_first() -> None:
    first, second, third = ids(100), ids(100, branch=1), ids(100, branch=2)
    index = index_of(first, second, budget=2 * (REST + 100 * ROW))
    index = used(index, digest_of(first))
    index, drops = add(index, drafted(index, third))
    gone = digest_of(second)
    assert drops == (Drop(gone, Piece.REST), Drop(gone, Piece.ROWS))
    assert index.alive == {digest_of(first), digest_of(third)}


def test_rows_stay_while_a_later_snapshot_needs_them() -> None:
    """The ends of earlier turns go, the conversation's last one can still be gone on from."""
    index = index_of(ids(100), ids(200), budget=2 * REST + 320 * ROW)
    index, drops = add(index, drafted(index, ids(300), find(index, ids(300))))
    assert drops == (Drop(digest_of(ids(100)), Piece.REST),)
    assert [entry.length for entry in index.chain(digest_of(ids(300)))] == [100, 200, 300]
    assert find(index, ids(350)).length == 300
    assert find(index, ids(180)) is None


def test_what_lost_its_rest_gets_it_back_without_new_rows() -> None:
    index = index_of(ids(100), ids(200), budget=2 * REST + 320 * ROW)
    index, _ = add(index, drafted(index, ids(300), find(index, ids(300))))
    index, drops = add(index, drafted(index, ids(100)))
    assert index.nbytes <= index.budget_bytes
    assert digest_of(ids(100)) in index.alive
    assert Drop(digest_of(ids(100)), Piece.ROWS) not in drops


def test_what_would_never_fit_drives_nothing_out() -> None:
    index = index_of(ids(100), ids(100, branch=1), budget=3 * REST + 250 * ROW)
    assert add(index, drafted(index, ids(1000, branch=2))) is None


def test_what_is_there_is_not_added_again() -> None:
    index = index_of(ids(100))
    assert add(index, drafted(index, ids(100))) is None


def test_entries_of_an_earlier_launch() -> None:
    index = index_of(ids(100), ids(200), ids(300, branch=1, at=200), ids(90, branch=2))
    found = list(index.entries.values())
    again = with_entries(index.budget_bytes, found)
    assert (again.entries, again.alive, again.clock) == (index.entries, index.alive, index.clock)
    orphans = with_entries(index.budget_bytes, found[1:])
    assert list(orphans.alive) == [digest_of(ids(90, branch=2))]
    few = with_entries(REST + 100 * ROW, found)
    assert list(few.alive) == [digest_of(ids(90, branch=2))]


def test_borders_are_close_at_first_and_never_an_eighth_apart() -> None:
    chunk = 128
    kept = [at for at in range(chunk, 1 << 18, chunk) if is_border(at - chunk, at)]
    assert kept[:8] == [512 * n for n in range(1, 9)]
    assert all(b - a <= max(512, b // 8) for a, b in pairwise(kept))
    assert len(kept) < 8 * 10


@st.composite
def prompts(draw: st.DrawFn) -> tuple[int, ...]:
    """Prompts that share beginnings of many lengths."""
    length = draw(st.integers(60, 130))
    branch = draw(st.integers(0, 2))
    return ids(length, branch=branch, at=draw(st.sampled_from([0, 66, 75, 80, 99])))


@settings(deadline=None, max_examples=200)
@given(st.lists(prompts(), max_size=14), st.integers(0, 8), st.integers(0, 16))
def test_any_history_of_prompts(history: list[tuple[int, ...]], room: int, back: int) -> None:
    """The budget holds, the longest beginning is found, and what is held is what the index says."""
    index, held = Index(room * (REST + 60 * ROW)), set[Drop]()
    for tokens in history:
        match = find(index, tokens)
        most = max((_usable(index.entries[key], tokens, history) for key in index.alive), default=0)
        assert (match.length if match else 0) == (most if most >= 64 else 0)
        if match:
            index = used(index, match.key)
        entry = drafted(index, tokens, *([match] if match else []), back=back)
        if (grown := add(index, entry)) is None:
            continue
        index, drops = grown
        held = {*held, *(Drop(entry.key, piece) for piece in Piece)} - set(drops)
        assert index.nbytes <= index.budget_bytes
        assert held == {
            *(Drop(key, Piece.ROWS) for key in index.entries),
            *(Drop(key, Piece.REST) for key in index.alive),
        }
        for key in index.alive:
            assert index.chain(key)[0].base == 0


def _usable(entry: Entry, tokens: tuple[int, ...], history: list[tuple[int, ...]]) -> int:
    """What `tokens` can use of an entry, by comparing with all of its tokens."""
    whole = next(each for each in history if digest_of(each) == entry.key)
    pairs = list(zip(whole, tokens[:-1], strict=False))
    shared = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    return shared if shared >= entry.length - len(entry.tail) else 0
