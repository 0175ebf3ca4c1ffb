"""A model like the demo model, small enough to train a few steps of it in a test."""

from dsv4_tp.modelspec import parse_spec
from examples.demo_model.settings import CONFIG, Phase

SMALL_CONFIG = CONFIG | {
    "hidden_size": 128,
    "index_topk": 2,
    "n_routed_experts": 4,
    "num_attention_heads": 4,
    "o_groups": 2,
    "sliding_window": 8,
}
SMALL = parse_spec(SMALL_CONFIG, where="the small model")
PHASES = (
    Phase(steps=3, length=32, rows=4, select=False),
    Phase(steps=2, length=64, rows=2, select=True),
    Phase(steps=2, length=64, rows=2, select=True, rounded=True),
)
