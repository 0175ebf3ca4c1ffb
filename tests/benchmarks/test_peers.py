"""The forecast's constants are those that were fitted, and its figures of pairs come near."""

from statistics import median

import pytest

from benchmarks import peers
from dsv4_tp.plan.chips import CHIPS
from dsv4_tp.plan.speed import OPERATION_S, PRODUCTS, REACHED


def test_constants_are_what_single_macs_have_shown():
    found = peers.fitted()
    used = {"reached": REACHED, "operation_s": OPERATION_S, "products": PRODUCTS}
    assert found == pytest.approx(used, rel=0.02)


def test_chips_do_in_prompts_what_was_published():
    rates = {"m1-ultra": 225, "m2-ultra": 411, "m3-ultra": 661, "m5-max": 790}
    rates["m4-max"] = rates["m3-ultra"] * 18.4 / 28.4
    for name, rate in rates.items():
        assert CHIPS[name].products_flop_s == pytest.approx(peers.products(rate), rel=0.01)


def test_figures_of_pairs_are_forecast():
    errors = {"decode": [], "prefill": []}
    for line in peers.lines():
        errors["decode" if line.published.decode else "prefill"].append(abs(line.error))
    assert median(errors["decode"]) < 0.1
    assert median(errors["prefill"]) < 0.1
    assert sum(error > 0.25 for found in errors.values() for error in found) == 1


def test_whole_attention_pays_from_where_others_reckon_but_for_the_bandwidth_reached():
    """Theirs are of weights in 8.5 bits, ours in 8.25."""
    for chip, others_us in (("m3-ultra", 65), ("m5-max", 87), ("m4-max", 98)):
        border_us, at_all_us = peers.borders_us(chip)
        assert at_all_us == pytest.approx(others_us * 8.25 / 8.5, rel=0.02)
        assert border_us == pytest.approx(at_all_us / REACHED)


def test_a_program_that_keeps_attention_whole_reads_more():
    ours, adurham = peers.planned((1, 1)), peers.planned((1, 1), peers.PROGRAMS["adurham"])
    whole = dict(peers.planned((1,)).rank_bytes[0].kinds)
    assert dict(adurham.rank_bytes[1].kinds)["attention"] == whole["attention"]
    assert dict(adurham.rank_bytes[1].kinds)["experts"] == whole["experts"] // 2
    third = dict(peers.planned((1, 1), peers.PROGRAMS["omlx"]).rank_bytes[0].kinds)["attention"]
    assert third == pytest.approx(whole["attention"] * 2 / 3, rel=0.01)
    assert dict(ours.rank_bytes[0].kinds)["attention"] < third
