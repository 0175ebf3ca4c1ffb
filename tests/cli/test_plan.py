"""`dsv4-tp plan`: what each rank will hold."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dsv4_tp.cli.main import run
from dsv4_tp.cli.memory import read_memory
from dsv4_tp.cli.wish import Wish
from tests.storage_files import FP4, copy_model

FLASH = Path(__file__).parents[1] / "plan/configs/deepseek-v4-flash.json"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory without a cluster.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["plan", *arguments, "--json"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    return json.loads(line)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["plan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def weights(planned: dict[str, Any]) -> list[int]:
    return [rank["weight"] for rank in planned["ranks"]]


def test_the_table_has_a_column_for_each_rank_and_its_total(capsys: pytest.CaptureFixture[str]):
    assert run(["plan", "--model", str(FLASH), "--split", "3:5"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["GB", "rank", "0", "rank", "1"]
    kinds = ["weights", "cache", "prefix", "buffers", "total"]
    assert [line[0] for line in lines[-5:]] == kinds
    columns = ([float(cell) for cell in line[-2:]] for line in lines[-5:])
    weights, cache, prefixes, buffers, total = columns
    assert 60 < weights[0] < weights[1] < 100
    assert lines[-4][:4] == ["cache", "at", "1048576", "tokens"]
    assert cache[0] == cache[1] == 7.97
    assert prefixes == [2, 2]
    for rank in (0, 1):
        parts = weights[rank] + cache[rank] + prefixes[rank] + buffers[rank]
        assert abs(parts - total[rank]) < 0.02


def test_json_says_the_same_in_bytes(capsys: pytest.CaptureFixture[str]):
    planned = plan(capsys, "--model", str(FLASH), "--ranks", "2")
    assert planned["model"] == str(FLASH)
    for number, rank in enumerate(planned["ranks"]):
        assert rank["rank"] == number
        assert rank["total_bytes"] == sum(rank["bytes"].values())
        kinds = ("total", "cache", "prefix_cache", "buffer")
        assert rank["needed_bytes"] == sum(rank[f"{kind}_bytes"] for kind in kinds)
    assert (planned["context"], planned["prefill_chunk"]) == (1048576, 512)
    spans = [rank["part"]["heads"] for rank in planned["ranks"]]
    assert spans == [[0, 32], [32, 64]]


def test_what_a_token_reads_is_told_beside_an_even_share(capsys: pytest.CaptureFixture[str]):
    asked = ["plan", "--model", str(FLASH), "--split", "3:5", "--ledger", "8192"]
    assert run(asked) == 0
    lines = [line.split() for line in capsys.readouterr().out.partition("\n\n")[2].splitlines()]
    head = ["GB", "read", "at", "8192", "tokens", "rank", "0", "rank", "1", "even", "share"]
    assert lines[0] == head
    assert lines[-1][0] == "all"
    less, more, even = map(float, lines[-1][1:])
    # Neither has all of its own, and what both read is counted twice.
    assert less < even < more < 2 * even < 1.2 * (less + more)
    told = plan(capsys, *asked[1:])
    assert [rank["all"] / 1e9 for rank in told["read_bytes"]] == pytest.approx(
        [less, more], abs=0.01
    )
    for rank in (*told["read_bytes"], told["even_share_bytes"]):
        assert rank.pop("all") == pytest.approx(sum(rank.values()), abs=20)
    assert "embed" not in told["even_share_bytes"]
    assert plan(capsys, "--model", str(FLASH), "--ranks", "2").keys() == told.keys() - {
        "read_bytes",
        "even_share_bytes",
    }


def test_a_directory_is_planned_by_its_files(capsys: pytest.CaptureFixture[str]):
    planned = plan(capsys, "--model", "demo", "--hosts", "localhost,localhost")
    assert weights(planned) == [1, 1]
    assert "not asked for" in planned["notes"][0]


def test_cluster_yaml_gives_what_the_options_leave_out(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
):
    (elsewhere / "cluster.yaml").write_text(
        "version: 1\nmodel: {path: demo}\nsplit: {experts: whole}\n"
        "hosts: [{name: localhost}, {name: b, weight: 2}]\n"
    )
    whole = plan(capsys)
    assert (weights(whole), whole["experts"]) == ([1, 2], "whole")
    assert whole["attention"] == "split"
    assert plan(capsys, "--attention", "whole")["attention"] == "whole"
    assert weights(plan(capsys, "--ranks", "4")) == [1, 1, 1, 1]
    assert plan(capsys, "--model", str(FLASH))["model"] == str(FLASH)
    shutil.move(elsewhere / "cluster.yaml", elsewhere / "other.yaml")
    assert weights(plan(capsys, "-f", "other.yaml")) == [1, 2]


def test_cluster_yaml_is_not_read_beside_hosts(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    (elsewhere / "cluster.yaml").write_text("broken: [")
    assert weights(plan(capsys, "--hosts", "a,b,c", "--model", "demo")) == [1, 1, 1]
    assert "cluster.yaml:1: not YAML" in refused(capsys, "--ranks", "2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--ranks 2", "there is no ./cluster.yaml; give --model PATH"),
        ("--model demo", "give --ranks N, --split 3:5, --hosts A,B or -f FILE"),
        ("--model demo --ranks 2 --split 1:1", "--ranks and --split all say how many ranks"),
        ("--model demo --ranks 17", "17 ranks"),
        ("--model demo --hosts a,a", "a is listed twice"),
        ("--model demo --split 1:99999", "rank 0 of 2 would hold nothing"),
        ("--model demo --ranks 2 --context 5000", "a context of 5000 tokens; the model's is 4096"),
        ("--model demo --ranks 2 --memory 128", "--memory has 1 values for 2 ranks"),
        ("--model demo --hosts a,b --memory 1,2,3", "--memory has 3 values for 2 hosts"),
        ("--model demo --memory 1,x", "--memory '1,x': expected positive numbers such as 128,96"),
        ("--model demo --memory 1,0", "--memory '1,0': expected positive numbers"),
        ("--model demo --memory 1,1 --bandwidth 800", "--memory has 2 values, --bandwidth 1"),
        ("--model demo --ranks 2 --bandwidth 8,4", "--bandwidth needs --memory"),
        (
            "--model demo --ranks 2 --memory 0.001,1",
            "GB at a context of 4096 tokens (weights 0.0050, caches",
        ),
        ("--hosts a,b", "which model? give --model"),
        ("--model none --ranks 2", "no such file"),
        ("-f none.yaml", "none.yaml: No such file"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
):
    assert says in refused(capsys, *arguments.split())


def test_a_half_copied_checkpoint_is_refused(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    model = copy_model(FP4, elsewhere / "model")
    (model / "model-00002-of-00002.safetensors").unlink()
    says = refused(capsys, "--model", str(model), "--ranks", "2")
    assert "model-00002-of-00002.safetensors" in says


def test_the_context_and_the_chunk_come_from_cluster_yaml(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
):
    (elsewhere / "cluster.yaml").write_text(
        "version: 1\nmodel: {path: demo}\nhosts: [{name: localhost}]\n"
        "context: 1000\nprefill_chunk: 64\n"
    )
    planned = plan(capsys)
    assert (planned["context"], planned["prefill_chunk"]) == (1000, 64)
    shorter, smaller = plan(capsys, "--context", "500"), planned["ranks"][0]
    assert shorter["context"] == 500
    for name in ("cache_bytes", "buffer_bytes", "needed_bytes"):
        assert shorter["ranks"][0][name] < smaller[name]


def test_chunks_are_as_long_as_memory_allows(capsys: pytest.CaptureFixture[str]):
    flash = ("--model", str(FLASH), "--context", "65536")
    chunks = [
        plan(capsys, *flash, "--memory", memory)["prefill_chunk"] for memory in ("128,128", "400")
    ]
    assert chunks == [1024, 512]


def test_rows_held_as_trained_take_about_half(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    flash = ("--model", str(FLASH), "--ranks", "2", "--prefix-cache-gb", "0")
    exact, trained = plan(capsys, *flash), plan(capsys, *flash, "--cache-rows", "trained")
    assert (exact["cache_rows"], trained["cache_rows"]) == ("exact", "trained")
    more, less = (planned["ranks"][0] for planned in (exact, trained))
    assert 0.5 < less["cache_bytes"] / more["cache_bytes"] < 0.52
    saved = more["cache_bytes"] - less["cache_bytes"]
    assert more["needed_bytes"] - less["needed_bytes"] >= saved

    (elsewhere / "cluster.yaml").write_text(
        "version: 1\nmodel: {path: demo}\nhosts: [{name: localhost}]\ncache_rows: trained\n"
    )
    assert run(["plan"]) == 0
    assert "cache at 4096 tokens, trained rows" in capsys.readouterr().out
    assert plan(capsys, "--cache-rows", "exact")["cache_rows"] == "exact"


def test_rows_of_widths_that_training_had_no_form_for_are_refused(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
):
    config = json.loads(FLASH.read_text()) | {"head_dim": 160, "o_lora_rank": 1024}
    (elsewhere / "config.json").write_text(json.dumps(config))
    odd = ("--model", str(elsewhere / "config.json"), "--ranks", "2")
    plan(capsys, *odd)
    says = refused(capsys, *odd, "--cache-rows", "trained")
    assert (
        "cache_rows: trained: 96 channels that are not rotated make no whole blocks of 64" in says
    )


def test_memory_alone_says_how_many_ranks_and_the_split_is_proposed(
    capsys: pytest.CaptureFixture[str],
):
    flash = ("--model", str(FLASH), "--context", "65536")
    planned = plan(capsys, *flash, "--memory", "128,64")
    assert weights(planned) == [2, 1]
    assert [rank["needed_bytes"] <= gb * 10**9 for rank, gb in _with(planned, (128, 64))] == [
        True
    ] * 2
    assert weights(plan(capsys, *flash, "--memory", "128,128", "--bandwidth", "400,800")) == [1, 2]
    # The faster one is full, and the slower one takes the rest.
    slow, fast = plan(capsys, *flash, "--memory", "128,96", "--bandwidth", "400,800")["ranks"]
    assert fast["needed_bytes"] <= 96 * 10**9 < 1.05 * fast["needed_bytes"]
    assert slow["weight"] < fast["weight"]


def _with(planned: dict[str, Any], sizes: tuple[int, ...]) -> list[tuple[dict[str, Any], int]]:
    return list(zip(planned["ranks"], sizes, strict=True))


def test_what_does_not_fit_is_refused_with_what_would(capsys: pytest.CaptureFixture[str]):
    fitting = ("--hosts", "a,b", "--memory", "87,87", "--model", str(FLASH))
    says = refused(capsys, *fitting, "--context", "1048576")
    assert (
        " GB at a context of 1048576 tokens (weights 80.5, caches 8.0, prefix cache 2.0, " in says
    )
    assert says.count("87.0 GB may be used; ") == 2
    assert "a: rank 0 needs" in says
    assert "b: rank 1 needs" in says
    advice = says.split("what would fit: ")[1]
    context = advice.split()[3]
    assert f"a context of {context} tokens, or 1 more host with 87.0 GB and weights" in advice
    assert plan(capsys, *fitting, "--context", context)["context"] == int(context)
    refused(capsys, *fitting, "--context", str(int(context) + 1))


def test_a_prefix_cache_is_counted_as_asked(capsys: pytest.CaptureFixture[str]):
    asked = ("--model", str(FLASH), "--ranks", "2", "--context", "4096", "--prefix-cache-gb")
    none, some = (plan(capsys, *asked, size)["ranks"][0] for size in ("0", "3.5"))
    assert some["needed_bytes"] - none["needed_bytes"] == 3_500_000_000
    assert run(["plan", *asked, "-1"]) == 2


def test_the_memory_of_a_host_is_for_all_its_ranks(capsys: pytest.CaptureFixture[str]):
    both = ("--model", str(FLASH), "--hosts", "localhost,localhost,b", "--context", "4096")
    plan(capsys, *both, "--memory", "120,60")
    says = refused(capsys, *both, "--memory", "104,72")
    assert "localhost: ranks 0, 1 need 111.7 GB at a context of 4096 tokens" in says
    assert "104.0 GB may be used; what would fit: weights " in says


def test_a_context_nobody_asked_for_is_what_fits_and_that_is_said(
    capsys: pytest.CaptureFixture[str],
):
    assert run(["plan", "--model", str(FLASH), "--memory", "115,61"]) == 0
    out, err = capsys.readouterr()
    told, proposed = err.splitlines()
    (context,) = re.findall(r"context: (\d+) tokens, of the model's 1048576, fit into", told)
    assert proposed == "proposed: --split 2:1"
    assert f"cache at {context} tokens" in out
    assert int(context) % 1024 == 0
    split = ("--model", str(FLASH), "--memory", "115,61", "--split", "2:1")
    plan(capsys, *split, "--context", context)
    refused(capsys, *split, "--context", str(int(context) + 1024))


def test_the_ranks_of_one_host_share_its_bandwidth():
    asked = Wish("demo", (1, 1, 1), hosts=(("a", (0, 2)), ("b", (1,))))
    told = read_memory("128,96", "800,500")
    assert told is not None
    assert told.speeds(asked) == (400, 500, 400)
    assert [(room.name, room.ranks, room.nbytes) for room in told.rooms(asked)] == [
        ("a", (0, 2), 128 * 10**9),
        ("b", (1,), 96 * 10**9),
    ]


def test_chips_bring_a_forecast(capsys: pytest.CaptureFixture[str]):
    chips = ("--model", str(FLASH), "--chips", "m3-ultra,m5-max")
    planned = plan(capsys, *chips, "--context", "100000", "--mtp", "1")
    assert weights(planned) == [1, 1]
    assert [each["context"] for each in planned["forecast"]] == [2048, 32768, 100000]
    first = planned["forecast"][0]
    assert first["with_kernels"]["tokens_s"] > first["decode"]["tokens_s"]
    assert first["drafted"]["tokens"] > 1
    assert first["decode"]["limit"] == "bytes"
    assert run(["plan", *chips]) == 0
    lines = capsys.readouterr().out.split("\n\n")[-2].splitlines()
    assert lines[0].split()[:4] == ["predicted", "tokens/s", "prefill", "decode"]
    assert [line.split()[1] for line in lines[1:]] == [
        "2048",
        "32768",
        "131072",
        "524288",
        "1048576",
    ]


def test_chips_say_which_attention_is_faster(capsys: pytest.CaptureFixture[str]):
    macs = ("--model", str(FLASH), "--chips", "m4-max,m4-max", "--context", "4096")
    ways = plan(capsys, *macs)["ways"]
    assert (ways["faster"], ways["sum_s"]) == ("split", 36e-6)
    assert (ways["split"]["collectives"], ways["whole"]["collectives"]) == (87, 44)
    border_us = ways["whole_pays_from_s"] * 1e6
    for way, more, says in (
        ("split", ("--link", "tcp"), "attention: whole would give 20.9 tokens/s at 2048 instead"),
        ("whole", ("--link", "tcp"), "attention: whole gives 20.9 tokens/s at 2048, split would"),
        ("split", ("--sum-us", f"{border_us + 1}"), "attention: whole would give"),
        ("whole", ("--sum-us", f"{border_us - 1}"), "attention: split would give"),
    ):
        assert run(["plan", *macs, "--attention", way, *more]) == 0
        told = capsys.readouterr().out.splitlines()[-1]
        assert told.startswith(says)
        assert ": whole needs 2.28 GB more on a rank, and pays where a sum takes more" in told
        assert f" than {border_us:.0f} µs; here it takes " in told
    assert plan(capsys, *macs[:2], "--chips", "m4-max", "--context", "4096")["ways"] is None


def test_both_ways_of_attention_are_compared_with_the_same_chunks(
    capsys: pytest.CaptureFixture[str],
):
    macs = ("--model", str(FLASH), "--chips", "m4-max,m4-max", "--context", "4096")
    split, whole = (
        plan(capsys, *macs, "--memory", "128,128", "--attention", way) for way in ("split", "whole")
    )
    assert split["prefill_chunk"] == whole["prefill_chunk"] == 1024
    more = whole["ranks"][0]["needed_bytes"] - split["ranks"][0]["needed_bytes"]
    assert run(["plan", *macs, "--memory", "128,128"]) == 0
    assert f"whole needs {more / 1e9:.2f} GB more" in capsys.readouterr().out.splitlines()[-1]


def test_attention_that_would_not_fit_is_not_advised(capsys: pytest.CaptureFixture[str]):
    macs = ("plan", "--model", str(FLASH), "--chips", "m4-max,m4-max", "--link", "tcp")
    assert run([*macs, "--memory", "86,86"]) == 0
    said = capsys.readouterr()
    assert "attention: whole would not fit at a context of " in said.err
    assert "attention:" not in said.out
    assert run([*macs, "--memory", "120,120"]) == 0
    assert "attention: whole would give" in capsys.readouterr().out


def test_chips_say_the_bandwidth_that_is_not_said(capsys: pytest.CaptureFixture[str]):
    memory = ("--model", str(FLASH), "--memory", "300,300", "--context", "8192")
    by_chips = weights(plan(capsys, *memory, "--chips", "m2-ultra,m4-max"))
    assert by_chips == weights(plan(capsys, *memory, "--bandwidth", "800,546"))
    even = weights(plan(capsys, *memory, "--bandwidth", "1,1", "--chips", "m2-ultra,m4-max"))
    assert even == [1, 1] != by_chips


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--chips m3-ultra --ranks 2", "--chips has 1 values for 2 ranks"),
        ("--chips m3-ultra --hosts a,b", "--chips has 1 values for 2 hosts"),
        ("--chips m3-ultra --memory 1,2", "--memory has 2 values, --chips 1"),
        ("--chips m3-ultra,m3", "--chips 'm3': there are figures of m1-ultra, m2-ultra"),
    ],
)
def test_chips_that_do_not_fit(capsys: pytest.CaptureFixture[str], options: str, message: str):
    assert message in refused(capsys, "--model", str(FLASH), *options.split())


def test_ranks_of_one_host_share_its_chip(capsys: pytest.CaptureFixture[str]):
    hosts = ("--model", str(FLASH), "--hosts", "localhost,localhost", "--context", "8192")
    one = plan(capsys, *hosts, "--chips", "m3-ultra")["forecast"][0]["decode"]
    two = plan(capsys, "--model", str(FLASH), "--context", "8192", "--chips", "m3-ultra,m3-ultra")
    assert one["bytes_s"] == 2 * two["forecast"][0]["decode"]["bytes_s"]
