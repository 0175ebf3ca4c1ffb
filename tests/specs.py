"""Models and splits for tests of planning and sharding; numbers only, no files but config.json."""

from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st

from dsv4_tp.modelspec import ModelSpec, read_spec
from tests.storage_files import FP4, PLAIN

CONFIGS = Path(__file__).parent / "plan" / "configs"
FLASH = read_spec(CONFIGS / "deepseek-v4-flash.json")
PRO = read_spec(CONFIGS / "deepseek-v4-pro.json")
TINY = read_spec(PLAIN)  # unquantised: 8 heads in 4 groups, experts of width 16
TINY_FP4 = read_spec(FP4)

# Machines that run tests may be busy: no example has a deadline.
fuzz = settings(deadline=None, max_examples=60)

weights = st.lists(st.integers(1, 9), min_size=1, max_size=16)


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    """Models of odd sizes; quantised ones have columns in multiples of 32, as they must."""
    quantised = draw(st.booleans())
    step = 32 if quantised else 1
    groups = draw(st.integers(1, 8))
    heads_per_group = draw(st.integers(1, 5))
    head_dim = draw(st.sampled_from([32, 64, 16]))
    rank = draw(st.integers(1, 12)) * 8
    if quantised:
        heads_per_group += -heads_per_group * head_dim % 32 // 16
        rank = rank * 32 if groups * rank % 32 else rank
    return replace(
        TINY_FP4 if quantised else TINY,
        vocab_size=draw(st.integers(1, 400)),
        num_attention_heads=groups * heads_per_group,
        o_groups=groups,
        o_lora_rank=rank,
        head_dim=head_dim,
        n_routed_experts=draw(st.integers(1, 9)),
        moe_intermediate_size=draw(st.integers(1, 12)) * step,
    )
