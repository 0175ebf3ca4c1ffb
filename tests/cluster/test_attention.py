"""Real ranks that each compute all of the attention: the same text, for one sum a layer."""

import json

import pytest

from dsv4_tp.core import AttentionSplit
from dsv4_tp.modelspec import read_spec
from tests.cluster.clusters import run

pytestmark = pytest.mark.cluster

HELLO = ("--prompt", "Hello", "--temperature", 0, "--max-tokens", 20, "--json")


def test_two_ranks_write_the_same_text_for_one_sum_a_layer(tmp_path, model_dir):
    layers = read_spec(model_dir).num_hidden_layers
    texts, collectives = [], {}
    for way in AttentionSplit:
        options = ("--hosts", "localhost,localhost", "--model", model_dir, "--attention", way)
        done = run("launch", *options, *HELLO, state_dir=tmp_path)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout.splitlines()[-1])
        texts.append(told["tokens"])
        collectives[way] = told["stats"]["collectives_per_token"]
    assert texts[0] == texts[1]
    assert collectives == {"split": 2 * layers + 1, "whole": layers + 1}


def test_a_set_for_the_other_attention_is_refused(tmp_path, model_dir):
    options = ("--model", model_dir, "--ranks", 2, "--attention", "whole")
    out = tmp_path / "set"
    assert run("shard", *options, "--out", out, state_dir=tmp_path).returncode == 0
    options = ("--hosts", "localhost,localhost", "--model", out)
    refused = run("launch", *options, *HELLO, state_dir=tmp_path)
    assert refused.returncode == 2
    assert "experts by width, attention whole, not for a plan of 2 ranks, attention split," in (
        refused.stderr
    )
    asked = run("launch", *options, "--attention", "whole", *HELLO, state_dir=tmp_path)
    assert asked.returncode == 0, asked.stderr
