"""What rows held as trained change, on little text."""

import pytest

from benchmarks import trained_rows
from dsv4_tp import demo
from examples.demo_model import evaluate


@pytest.mark.parametrize(("model", "theory"), [("flash", 3514), ("pro", 5031)])
def test_a_token_costs_half(model: str, theory: int) -> None:
    size = trained_rows.size_of(model)
    assert 1 < size.trained / theory < 1.05
    assert 0.5 < size.trained / size.exact < 0.52


@pytest.mark.slow
def test_the_rounding_shows_and_does_little() -> None:
    model = evaluate.load(demo.path())
    found = trained_rows.effect(model, (200, 64), prompts=1, tokens=4, questions=1)
    assert found.tokens == 262
    assert found.greedy_tokens == 4
    assert 0 < found.mean_distance < 0.05
    assert found.mean_distance < found.max_distance
    assert found.same_likeliest > 0.9
    assert found.perplexity_exact == pytest.approx(found.perplexity_trained, rel=0.02)
    assert found.retrieval_exact.keys() == {300, 1000}
