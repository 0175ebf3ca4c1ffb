"""A plan beside what the processes of a real cluster held, by their own count."""

import json
from pathlib import Path

import pytest

from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit, CacheRows, DType, ExpertSplit
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.modelspec import read_spec
from dsv4_tp.plan import make_plan
from tests.cluster.clusters import run

QUESTION = Path(__file__).parents[2] / "examples/demo_model/prompts/question.txt"
CONTEXT = 512
CLUSTER = f"""
version: 1
model: {{path: demo, dtype: float32}}
hosts: [{{name: localhost}}, {{name: localhost, weight: 2}}]
context: {CONTEXT}
"""


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("rows", "attention"),
    [
        (CacheRows.EXACT, AttentionSplit.SPLIT),
        (CacheRows.EXACT, AttentionSplit.WHOLE),
        pytest.param(CacheRows.TRAINED, AttentionSplit.SPLIT, marks=pytest.mark.slow),
    ],
)
def test_weights_are_exact_and_the_rest_is_a_bound(
    tmp_path: Path, rows: CacheRows, attention: AttentionSplit
):
    file = tmp_path / "cluster.yaml"
    split = f"split: {{experts: whole, attention: {attention}}}"
    file.write_text(f"{CLUSTER}{split}\ncache_rows: {rows}\n")
    asked = ("--prompt", QUESTION.read_text(encoding="utf-8"), "--temperature", "0", "--json")
    done = run("launch", "-f", file, *asked, state_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)["stats"]
    assert stats["prompt_tokens"] > 0.8 * CONTEXT

    path = demo.model_dir("demo")
    spec = read_spec(path)
    found = catalog(spec, read_headers(path), mtp=False)
    plan = make_plan(
        spec,
        found,
        [1, 2],
        expert_split=ExpertSplit.WHOLE,
        attention=attention,
        dtype=DType.FLOAT32,
        context=CONTEXT,
        cache_rows=rows,
    )
    needed = zip(stats["ranks"], plan.rank_bytes, plan.needed_bytes, strict=True)
    for rank, weights, need in needed:
        assert rank["weight_bytes"] == weights.total
        assert rank["peak_bytes"] <= need <= 3 * rank["peak_bytes"]
