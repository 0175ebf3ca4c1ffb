"""At the start, heads of the first layer look back by position and the next compare by likeness."""

import mlx.core as mx
import pytest

from examples.demo_model.initial import initialise
from examples.demo_model.twins import TrainedAttention, trainable
from tests.demo_model.small import SMALL

WINDOW, HEADS = SMALL.sliding_window, SMALL.num_attention_heads
LENGTH, FIRST, AGAIN, SAID = 128, 48, 96, 8  # SAID tokens stand at FIRST, and AGAIN


@pytest.fixture(scope="module")
def weights():
    """The attention of each layer, [H, L, 2 * window + rows], for words that come twice."""
    model = trainable(SMALL)
    initialise(model, SMALL, seed=1, token_counts=[1] * SMALL.vocab_size)
    ids = mx.random.permutation(SMALL.vocab_size, key=mx.random.key(7))[:LENGTH]
    ids[AGAIN : AGAIN + SAID] = ids[FIRST : FIRST + SAID]
    seen = []

    def watched(self, scores):
        seen.append(weigh(self, scores)[0])
        return seen[-1]

    weigh = TrainedAttention._weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainedAttention, "_weights", lambda self, s: watched(self, s)[None])
        for layer in model.layers:
            layer.attn.select = False
        model.streams(ids[None], model.make_cache())
    return seen


@pytest.mark.parametrize("head", range(HEADS))
def test_a_head_of_the_first_layer_looks_back_by_its_number(weights, head):
    queries = range(WINDOW, LENGTH)
    # Keys of a block: those of the block before it, then its own.
    back = [weights[0][head, q, WINDOW + q % WINDOW - (head + 1)].item() for q in queries]
    assert min(back) > 0.4


def test_heads_that_compare_find_where_the_words_stood_before(weights):
    """Of all rows before the query's own words, one that holds the words as they came first."""
    rows = weights[1][:, AGAIN + SAID - 1, 2 * WINDOW :]
    earlier = rows[:, : (AGAIN - 2 * SAID) // 4]
    found = earlier.argmax(axis=-1).tolist()
    held = range(FIRST // 4 + 1, (FIRST + SAID) // 4 + 2)
    assert all(found[head] in held for head in range(0, HEADS, 2)), found
