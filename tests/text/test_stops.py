"""Stop strings, in a text that comes in pieces."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.text import Stops

# Few letters, so that stops overlap with themselves, each other and the borders of pieces.
words = st.text("abé", max_size=12)
fuzz = settings(deadline=None)


def shown(pieces: list[str], stops: list[str]) -> tuple[str, bool]:
    """All that was shown of a text, and whether it was ended."""
    search = Stops(stops)
    parts = [search.add(piece) for piece in pieces]
    text = "".join(parts) + search.finish()
    assert not search.found or (text + search.which in "".join(pieces) and search.which in stops)
    return text, search.found


def expected(text: str, stops: list[str]) -> tuple[str, bool]:
    """By looking at every beginning of the whole text."""
    for end in range(len(text) + 1):
        endings = [stop for stop in stops if text[:end].endswith(stop)]
        if endings:
            return text[: end - max(map(len, endings))], True
    return text, False


@fuzz
@given(
    st.lists(st.text("abé", max_size=3), max_size=12),
    st.lists(st.text("abé", min_size=1, max_size=4), max_size=3),
)
def test_the_pieces_do_not_matter(pieces: list[str], stops: list[str]):
    assert shown(pieces, stops) == expected("".join(pieces), stops)


@fuzz
@given(words, st.lists(st.text("abé", min_size=1, max_size=4), max_size=3))
def test_nothing_is_held_longer_than_needed(text: str, stops: list[str]):
    search = Stops(stops)
    so_far = "".join(map(search.add, text))
    if not search.found:
        beginnings = {stop[:n] for stop in stops for n in range(1, len(stop))}
        held = [text[-n:] for n in range(1, len(text) + 1) if text[-n:] in beginnings]
        assert so_far == text.removesuffix(max(held, key=len, default=""))


@pytest.mark.parametrize(
    ("pieces", "stops", "shows"),
    [
        (["The e", "n", "d. More"], ["end"], ["The ", "", ""]),
        (["The e", "n", "t"], ["end"], ["The ", "", "ent"]),
        (["abc", "d"], ["bcd", "abcx"], ["", "a"]),  # the first that is whole
        (["xabc"], ["c", "abc"], ["x"]),  # of two at once the longer one
        (["aab"], ["ab"], ["a"]),
    ],
)
def test_what_is_shown_with_each_piece(pieces: list[str], stops: list[str], shows: list[str]):
    assert list(map(Stops(stops).add, pieces)) == shows


def test_nothing_comes_after_the_end():
    search = Stops(["."])
    assert [search.add("One. Two"), search.add(" three."), search.finish()] == ["One", "", ""]
