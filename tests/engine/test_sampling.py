"""The chosen token is a function of the logits, the setting, the seed and the position only."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.core import Sampling, Span
from dsv4_tp.engine import choice, packets, penalties
from dsv4_tp.engine import sampling as rules
from dsv4_tp.engine.choice import choose_together
from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.engine.draws import Choice, Draw, History
from dsv4_tp.engine.masks import packed
from dsv4_tp.engine.team import Team
from tests.engine.together import (
    COMMAND,
    chosen,
    plain_filter,
    plainly_changed,
    plainly_chosen,
    spans_of,
    together,
)

EXAMPLES = settings(max_examples=100, deadline=None)
POSITION = 11

rows = st.builds(
    lambda seed, size, spread, step: (
        np.round(np.random.default_rng(seed).normal(size=size) * spread / step) * step
    ).astype(np.float32),
    seed=st.integers(0, 10**6),
    size=st.integers(1, 700),
    spread=st.sampled_from([0.0, 0.1, 3.0, 30.0]),
    step=st.sampled_from([1e-3, 0.5]),  # coarse steps make ties
)
cuts = st.lists(st.integers(0, 700), min_size=0, max_size=3)
choices = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-3, 0.6, 1.0, 5.0]),
    top_p=st.sampled_from([1e-3, 0.3, 0.5, 0.95, 1.0]),
    top_k=st.sampled_from([0, 1, 5, 64, 65, 300]),
    min_p=st.sampled_from([0.0, 0.05, 1.0]),
    seed=st.integers(0, 2**64 - 1),
)


def token_of(row: np.ndarray, spans: list[Span], setting: Sampling, position: int = POSITION):
    (choice,) = chosen(row[None], [Draw(setting, position)], spans)
    return choice.token


@EXAMPLES
@given(rows, cuts, choices)
def test_the_split_does_not_change_the_token(row, cuts, setting):
    plain = plainly_chosen(row, Draw(setting, POSITION))
    assert token_of(row, spans_of(len(row), cuts), setting) == plain.token


@EXAMPLES
@given(rows, cuts)
def test_greedy_takes_the_lowest_of_equal_ids(row, cuts):
    assert token_of(row, spans_of(len(row), cuts), Sampling(temperature=0)) == int(row.argmax())


def test_ranks_with_an_empty_vocabulary_offer_nothing():
    row = np.array([0.0, 2.0, 1.0], dtype=np.float32)
    spans = [Span(0, 0), Span(0, 3), Span(3, 3)]
    for setting in (Sampling(temperature=0), Sampling(top_p=0.1), Sampling(top_k=1)):
        assert token_of(row, spans, setting) == 1


def test_the_packets_carry_the_lowest_command_number():
    said = together(np.zeros((2, 9), np.float32), [Draw(Sampling(), 1)] * 2, spans_of(9, [3, 6]))
    assert said.agreed == [[COMMAND]] * 3


def collectives_for(row: np.ndarray, spans: list[Span], setting: Sampling) -> int:
    ledger, *_ = together(row[None], [Draw(setting, POSITION)], spans).ledgers
    return ledger.traffic.collectives


def test_a_flat_nucleus_asks_for_all_logits():
    row = np.zeros(4096, dtype=np.float32)
    assert collectives_for(row, spans_of(4096, [2048]), Sampling(temperature=1.0, top_p=0.9)) == 2


def test_a_peaked_nucleus_does_not_ask_for_all_logits():
    row = np.linspace(0, 400, 4096, dtype=np.float32)
    assert collectives_for(row, spans_of(4096, [2048]), Sampling(temperature=1.0, top_p=0.9)) == 1


@pytest.mark.parametrize("setting", [Sampling(top_k=64), Sampling(top_k=3, top_p=0.5)])
def test_ties_at_the_border_do_not_ask_for_all_logits(setting):
    row = np.zeros(4096, dtype=np.float32)
    assert collectives_for(row, spans_of(4096, [4000]), setting) == 1


def test_seed_and_position_both_matter():
    row, spans = np.zeros(1000, dtype=np.float32), [Span(0, 1000)]
    base = token_of(row, spans, Sampling(seed=1), 5)
    assert base == token_of(row, spans, Sampling(seed=1), 5)
    assert base != token_of(row, spans, Sampling(seed=2), 5)
    assert base != token_of(row, spans, Sampling(seed=1), 6)


# --- many rows of one step ---

VOCAB = 300
SPLITS = {1: [], 2: [90], 3: [4, 150], 8: [0, 5, 60, 61, 200, 290, 290]}


def random_row(rng: np.random.Generator) -> np.ndarray:
    """Logits with ties, some of them -inf."""
    step = rng.choice([1e-3, 0.5])
    row = np.round(rng.normal(size=VOCAB) * rng.choice([0.0, 0.1, 3.0, 30.0]) / step) * step
    start, stop = np.sort(rng.integers(0, VOCAB, 2))
    if rng.random() < 0.3:
        row[start:stop] = -np.inf
    if rng.random() < 0.1:
        row[:] = np.where(np.arange(VOCAB) == start, 1.5, -np.inf)
    return row.astype(np.float32)


def random_draw(rng: np.random.Generator) -> Draw:
    """A draw with some of all that there is, the rest off."""

    def some(value: object, off: object) -> object:
        return value if rng.random() < 0.4 else off

    ids = rng.choice(VOCAB, 5, replace=False).tolist()
    setting = Sampling(
        temperature=rng.choice([0.0, 1e-3, 0.6, 1.0, 5.0]).item(),
        top_p=some(rng.choice([1e-3, 0.3, 0.5, 0.95]).item(), 1.0),
        top_k=some(rng.choice([1, 5, 64, 65, 250, 400]).item(), 0),
        seed=int(rng.integers(0, 2**63)),
        min_p=some(rng.choice([0.01, 0.3, 1.0]).item(), 0.0),
        repetition_penalty=some(rng.choice([0.5, 1.3]).item(), 1.0),
        presence_penalty=some(rng.uniform(-2, 2), 0.0),
        frequency_penalty=some(rng.uniform(-2, 2), 0.0),
        logit_bias=some(tuple(zip(ids, rng.uniform(-100, 100, 5).tolist(), strict=True)), ()),
        logprobs=some(rng.choice([0, 1, 5, 20]).item(), None),
    )
    given, made = (tuple(rng.integers(0, 40, 12).tolist()) for _ in range(2))
    allowed = some(packed(rng.choice(VOCAB, rng.choice([1, 9, 200]), replace=False).tolist()), None)
    return Draw(setting, int(rng.integers(0, 2**20)), History(given, made), allowed)


def is_same(got: Choice, expected: Choice) -> bool:
    """Equal ids, and log-probabilities but for rounding."""
    ids = [[token for token, _ in each.top] for each in (got, expected)]
    said = [
        [each.logprob or 0.0, *(logprob for _, logprob in each.top)] for each in (got, expected)
    ]
    return (
        got.token == expected.token
        and (got.logprob is None) == (expected.logprob is None)
        and ids[0] == ids[1]
        and np.allclose(*said, rtol=1e-6, atol=2e-5)
    )


def mistakes(count: int, split: list[int], *, seed: int, batch: int = 50) -> int:
    """How many of `count` random rows are chosen otherwise than plainly."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for _ in range(count // batch):
        table = np.stack([random_row(rng) for _ in range(batch)])
        draws = [random_draw(rng) for _ in range(batch)]
        got = chosen(table, draws, spans_of(VOCAB, split))
        expected = map(plainly_chosen, table, draws)
        wrong += sum(not is_same(*pair) for pair in zip(got, expected, strict=True))
    return wrong


ROWS = {1: 500, 2: 1000, 3: 2000, 8: 250}


@pytest.mark.parametrize("ranks", [1, 2, pytest.param(3, marks=pytest.mark.slow), 8])
def test_ranks_choose_what_the_whole_vocabulary_says(ranks):
    assert mistakes(ROWS[ranks], SPLITS[ranks], seed=ranks) == 0


# --- planted mistakes, each of which those rows must notice ---


CHANGES, KEYS = penalties._changes, packets._keys


def with_prompt(draw: Draw, span: Span) -> object:
    """As if the prompt had been generated."""
    history = History(draw.history.prompt, draw.history.prompt + draw.history.generated)
    return CHANGES(replace(draw, history=history), span)


def last_of_equals(values: mx.array) -> mx.array:
    return KEYS(values) - 2 * mx.arange(values.shape[1])


MISTAKES = {
    "the highest of equal ids are sent": (packets, "_keys", last_of_equals),
    "masses are added as they come": (rules, "joined_mass", lambda masses, *_: float(masses.sum())),
    "the rest of the vocabulary is ignored": (rules, "is_wide", lambda *_: False),
    "bias and penalties are left out": (penalties, "_has_any", lambda _: False),
    "the prompt counts as generated": (penalties, "_changes", with_prompt),
    "all is allowed": (choice, "masked", lambda logits, *_: logits),
    "log-sums of one rank": (packets, "_log_sum", lambda _: mx.array(0.0)),
    "noise by batch": (rules, "noise", lambda size, **_: mx.random.gumbel([size])),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(monkeypatch, mistake):
    monkeypatch.setattr(*MISTAKES[mistake])
    rng = np.random.default_rng(1)
    table = np.stack([random_row(rng) for _ in range(300)])
    draws = [random_draw(rng) for _ in range(300)]
    choices = together(table, draws, spans_of(VOCAB, SPLITS[3])).choices
    monkeypatch.undo()
    expected = map(plainly_chosen, table, draws)
    assert not all(is_same(*pair) for pair in zip(choices[0], expected, strict=True))


def test_a_row_alone_is_chosen_as_in_its_batch():
    rng = np.random.default_rng(4)
    table = np.stack([random_row(rng) for _ in range(60)])
    draws = [random_draw(rng) for _ in range(60)]
    spans = spans_of(VOCAB, SPLITS[2])
    batch = chosen(table, draws, spans)
    assert batch == [
        chosen(row[None], [draw], spans)[0] for row, draw in zip(table, draws, strict=True)
    ]


@pytest.mark.parametrize(
    "setting",
    [Sampling(temperature=0), Sampling(), Sampling(top_p=0.5), Sampling(top_k=90, logprobs=3)],
)
@pytest.mark.parametrize("nothing", [np.nan, -np.inf])
def test_a_row_without_numbers_leaves_the_others_alone(setting, nothing):
    table = np.random.default_rng(5).normal(size=(3, VOCAB)).astype(np.float32)
    draws = [Draw(setting, position) for position in range(3)]
    expected = chosen(table, draws, spans_of(VOCAB, [100]))
    table[1] = nothing
    got = chosen(table, draws, spans_of(VOCAB, [100]))
    assert got == [expected[0], Choice(None), expected[2]]


# --- what is drawn ---

LOGITS = np.array([2.0, 1.5, 1.4, 0.3, 0.0, -0.5, -1.0, -2.0, -3.0, -np.inf], dtype=np.float32)
HISTORY = History((0, 3), (1, 1, 4))
WAYS = {
    "plain": Sampling(),
    "hot": Sampling(temperature=2.0),
    "top-k": Sampling(top_k=4),
    "top-p": Sampling(temperature=1.5, top_p=0.8),
    "min-p": Sampling(temperature=1.2, min_p=0.1),
    "all": Sampling(
        temperature=1.7,
        top_k=7,
        top_p=0.9,
        min_p=0.05,
        repetition_penalty=1.3,
        presence_penalty=0.4,
        frequency_penalty=0.2,
        logit_bias=((5, 2.0), (8, 3.5)),
    ),
}


def surprise(setting: Sampling, count: int = 3000) -> float:
    """How far drawn tokens are from their distribution: chi-square, as normal deviations."""
    draws = [Draw(setting, position, HISTORY) for position in range(count)]
    rows = mx.broadcast_to(mx.array(LOGITS), [100, len(LOGITS)])
    team = Team(Collectives(), (Span(0, len(LOGITS)),))
    tokens = [
        choice.token
        for start in range(0, count, 100)
        for choice in choose_together(team, rows, draws[start : start + 100], least=(), caches=[])[
            0
        ]
    ]
    logits = plainly_changed(LOGITS, draws[0])
    kept = plain_filter(logits, draws[0])
    kept = kept[logits[kept] > -np.inf]
    weights = np.exp(logits[kept].astype(np.float64) / setting.temperature)
    expected = count * weights / weights.sum()
    seen = np.bincount(tokens, minlength=len(LOGITS))
    assert seen.sum() == seen[kept].sum(), "an id was drawn that had been filtered out"
    spread, freedom = (((seen[kept] - expected) ** 2) / expected).sum(), len(kept) - 1
    # Wilson and Hilferty: the cube root of chi-square is nearly normal.
    return float(
        ((spread / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / (2 / (9 * freedom)) ** 0.5
    )


@pytest.mark.parametrize("way", WAYS)
def test_tokens_follow_their_distribution(way):
    assert surprise(WAYS[way]) < 3.5


@pytest.mark.parametrize("way", WAYS)
def test_biased_noise_is_noticed(monkeypatch, way):
    noise = rules.noise
    monkeypatch.setattr(rules, "noise", lambda *args, **rest: 2 * noise(*args, **rest))
    assert surprise(WAYS[way]) > 5


# --- what is sent ---


def bytes_for(draws: list[Draw], *, vocab: int = 4096) -> set[int]:
    """What each rank sends for these draws from logits like a model's."""
    rows = np.random.default_rng(0).normal(size=(len(draws), vocab)).astype(np.float32) * 4
    ledgers = together(rows, draws, spans_of(vocab, [vocab // 3])).ledgers
    assert {ledger.traffic.collectives for ledger in ledgers} == {1}
    return {ledger.traffic.wire_bytes for ledger in ledgers}


def test_wire_bytes():
    greedy, top = Draw(Sampling(temperature=0), 9), Draw(Sampling(top_k=64, top_p=0.9), 9)
    assert bytes_for([greedy]) == {12}
    assert bytes_for([greedy] * 8) == {4 + 8 * 8}
    assert bytes_for([top]) == {4 + 4 + 64 * 12}
    assert bytes_for([top, greedy, top]) == {4 + 2 * (4 + 64 * 12) + 8}
    told = Draw(Sampling(temperature=0, logprobs=20), 9)
    assert bytes_for([told]) == {4 + 8 + 4 + 4 + 20 * 8}


def test_only_the_rows_that_need_it_send_all_their_logits():
    rows = np.zeros((3, 600), dtype=np.float32)
    draws = [Draw(Sampling(temperature=0), 1), Draw(Sampling(top_p=0.9), 2), Draw(Sampling(), 3)]
    ledger, *_ = together(rows, draws, spans_of(600, [300])).ledgers
    sizes = [payload.elements for payload in ledger.calls]
    assert sizes == [1 + 2 + (2 + 3 * 64) - 1 + 2, 2 * 300]


# --- conventions ---


def changed(**wishes: object) -> list[float]:
    row = np.array([[2.0, -2.0, 2.0, -2.0, 2.0]], dtype=np.float32)
    draw = Draw(Sampling(**wishes), 0, History((0, 1), (2, 2, 3)))
    return np.array(penalties.adjusted(mx.array(row), [draw], Span(0, 5)))[0].tolist()


def test_presence_and_frequency_count_what_was_generated():
    assert changed(presence_penalty=0.5) == [2.0, -2.0, 1.5, -2.5, 2.0]
    assert changed(frequency_penalty=0.5) == [2.0, -2.0, 1.0, -2.5, 2.0]


def test_repetition_counts_the_prompt_too():
    assert changed(repetition_penalty=2.0) == [1.0, -4.0, 1.0, -4.0, 2.0]


def test_bias_comes_before_repetition():
    assert changed(repetition_penalty=2.0, logit_bias=((0, 4.0), (4, -1.0)))[::4] == [3.0, 1.0]


@pytest.mark.parametrize("allowed", [None, packed([0, 2])])
def test_logprobs_are_the_models_own(allowed):
    row = np.log(np.array([[0.5, 0.3, 0.2]], dtype=np.float32))
    setting = Sampling(temperature=0, logit_bias=((2, 9.0),), logprobs=2)
    (choice,) = chosen(row, [Draw(setting, 0, allowed=allowed)], spans_of(3, [1]))
    assert choice.token == 2
    assert np.exp(choice.logprob) == pytest.approx(0.2)
    assert [token for token, _ in choice.top] == [0, 1]
    assert np.exp([logprob for _, logprob in choice.top]) == pytest.approx([0.5, 0.3])
