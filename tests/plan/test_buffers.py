"""The bound on working memory, against what MLX says it took."""

from dataclasses import replace

import mlx.core as mx
import pytest

from dsv4_tp.core import CacheRows, DType, ExpertSplit, Part
from dsv4_tp.layouts import native_catalog
from dsv4_tp.model import Model
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan import make_plan
from dsv4_tp.plan.buffers import Buffers
from dsv4_tp.rules import RUN_BYTES
from tests.model.tiny import random_ids, tiny_spec
from tests.plan.running import model_of
from tests.specs import FLASH

# Large enough for the arrays to matter, small enough for a test.
MODEST = {
    "hidden_size": 256,
    "num_attention_heads": 16,
    "head_dim": 64,
    "qk_rope_head_dim": 32,
    "q_lora_rank": 128,
    "o_lora_rank": 64,
    "index_n_heads": 16,
    "index_topk": 32,
    "n_routed_experts": 4,
    "moe_intermediate_size": 64,
    "num_experts_per_tok": 4,
    "vocab_size": 2048,
    "num_hash_layers": 0,
}
# What one stage is the largest of.
STAGES = {
    "attending": {
        "num_attention_heads": 32,
        "head_dim": 32,
        "qk_rope_head_dim": 16,
        "hidden_size": 64,
        "index_n_heads": 2,
        "num_experts_per_tok": 1,
        "compress_ratios": (4,),
    },
    "indexing": {"index_n_heads": 64, "num_attention_heads": 4},
    "indexing and attending": {"index_n_heads": 48},
    "mixing": {"hidden_size": 1024, "num_experts_per_tok": 1, "compress_ratios": (0,)},
    "pooling": {"head_dim": 544, "num_attention_heads": 4, "index_n_heads": 2},
    "experts": {"moe_intermediate_size": 512, "compress_ratios": (0,)},
    "logits": {"vocab_size": 16384, "compress_ratios": (0,)},
}


def modest(**changes: object) -> ModelSpec:
    given = {"compress_ratios": (128, 4)} | MODEST | changes
    return tiny_spec(num_hidden_layers=len(given["compress_ratios"]), **given)


def worst_bytes(model: Model, context: int, chunk: int) -> int:
    """The most memory beside weights and caches, while a prompt is fed and a token follows."""
    ids = random_ids(1, context, model.spec.vocab_size)
    mx.eval(ids)
    weights, cache, worst = mx.get_active_memory(), model.make_cache(), 0
    starts = [*range(0, context - 1, chunk), context - 1]
    for start, stop in zip(starts, [*starts[1:], context], strict=True):
        mx.reset_peak_memory()
        logits = model.logits(model.streams(ids[:, start:stop], cache)[:, -1:])
        mx.eval(logits, cache.arrays())
        mx.synchronize()
        del logits
        held = sum(layer.nbytes for layer in cache)
        worst = max(worst, mx.get_peak_memory() - weights - held)
    return worst


@pytest.mark.parametrize("rows", CacheRows)
@pytest.mark.parametrize(
    "dtype", [pytest.param(DType.FLOAT32, marks=pytest.mark.slow), DType.BFLOAT16]
)
@pytest.mark.parametrize("changes", STAGES.values(), ids=STAGES)
def test_no_stage_takes_more_than_the_plan_says(
    changes: dict[str, object], dtype: DType, rows: CacheRows
):
    spec, context, chunk = modest(**changes), 513, 128
    model = model_of(spec, dtype)
    model.cache_rows = rows
    worst = worst_bytes(model, context, chunk)
    said = Buffers(spec, spec.whole, dtype, context, chunk, rows).total
    assert worst <= said <= 3 * worst


def test_a_part_takes_what_its_heads_and_channels_do():
    spec, context, chunk = modest(), 513, 128
    plan = make_plan(spec, native_catalog(spec, mtp=False), [1, 3], expert_split=ExpertSplit.WHOLE)
    for part in plan.parts:
        worst = worst_bytes(model_of(spec, DType.FLOAT32, part), context, chunk)
        said = Buffers(spec, part, DType.FLOAT32, context, chunk).total
        assert worst <= said <= 3 * worst


def test_a_chunk_is_no_longer_than_the_context():
    whole = Buffers(FLASH, FLASH.whole, DType.BFLOAT16, 100, 512)
    assert whole.total == replace(whole, chunk=100).total


def test_more_tokens_never_take_less():
    for chunk in (1, 64, 512):
        sizes = [
            Buffers(FLASH, FLASH.whole, DType.BFLOAT16, context, chunk).total
            for context in (1, 2, 63, 64, 100, 512, 513, 4096, 100_000, 1 << 20)
        ]
        assert sizes == sorted(sizes)


def test_a_rank_without_heads_looks_back_at_nothing():
    part = Part(*(replace(span, stop=span.start) for span in _spans(FLASH.whole)))
    idle = Buffers(FLASH, part, DType.BFLOAT16, 1 << 20, 512)
    assert idle.total + RUN_BYTES < replace(idle, part=FLASH.whole).total
    model, context, chunk = modest(), 513, 128
    part = Part(*(replace(span, stop=span.start) for span in _spans(model.whole)))
    worst = worst_bytes(model_of(model, DType.FLOAT32, part), context, chunk)
    assert worst <= Buffers(model, part, DType.FLOAT32, context, chunk).total


def test_a_long_context_takes_little_more_than_a_short_one():
    short, long = (
        Buffers(FLASH, FLASH.whole, DType.BFLOAT16, context, 512).total
        for context in (8192, 1 << 20)
    )
    assert short < long < short + 16 * RUN_BYTES


def _spans(part: Part):
    return part.heads, part.experts, part.expert_width, part.shared_width, part.vocab
