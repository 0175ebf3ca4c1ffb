from fnmatch import fnmatchcase

import pytest

from dsv4_tp.modelspec import ModelSpec, contract
from dsv4_tp.rules import RULES, Split, rule_of
from tests.specs import FLASH, PRO, TINY, TINY_FP4


@pytest.mark.parametrize("spec", [FLASH, PRO, TINY, TINY_FP4])
def test_exactly_one_rule_fits_each_tensor(spec: ModelSpec) -> None:
    for tensor in contract(spec, mtp=True):
        fitting = [rule for rule in RULES if fnmatchcase(tensor.name, rule.pattern)]
        assert fitting == [rule_of(tensor.name)], tensor.name


def test_no_rule_is_idle() -> None:
    used = {rule_of(tensor.name) for tensor in contract(FLASH, mtp=True)}
    assert used == set(RULES)


def test_a_tensor_without_a_rule_is_noticed() -> None:
    with pytest.raises(AssertionError, match="0 sharding rules fit"):
        rule_of("layers.0.attn.stranger")


def test_what_is_split_and_nothing_else() -> None:
    split = {t.name for t in contract(TINY, mtp=False) if rule_of(t.name).split is not Split.ALL}
    attention = ("wq_b.weight", "attn_sink", "wo_a.weight", "wo_b.weight")
    experts = [f"{kind}.w{i}.weight" for kind in ("experts", "shared_experts") for i in (1, 2, 3)]
    assert split == {"head.weight"} | {
        f"layers.{layer}.{name}"
        for layer in range(TINY.num_hidden_layers)
        for name in [f"attn.{name}" for name in attention] + [f"ffn.{name}" for name in experts]
    }
