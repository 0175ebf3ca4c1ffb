"""Prompts that begin like earlier ones, asked by a user, in one launch and in the next."""

import json
from pathlib import Path

import pytest

from tests.cluster.clusters import launch

pytestmark = pytest.mark.cluster

PROMPTS = Path(__file__).parents[2] / "examples/demo_model/prompts"
QUESTION = (PROMPTS / "question.txt").read_text().strip()
ANSWER = "The code of the red door is 4182."
KEPT = "--prefix-cache-on-disk"


def ask(ranks: int, state_dir: Path, *options: object) -> tuple[list[dict], str]:
    """The answers to the question, asked twice by one launch; and what it told."""
    hosts = ",".join(["localhost"] * ranks)
    words = ("--temperature", 0, "--max-tokens", 40, "--json", *("--prompt", QUESTION) * 2)
    # Equal bits need the stock BLAS.
    env = {"DSV4TP_PRELOAD": "off"}
    cluster = launch(
        "--hosts", hosts, "--model", "demo", *words, *options, state_dir=state_dir, env=env
    )
    code, out, err = cluster.finish(timeout_s=120)
    assert code == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert all(ANSWER in answer["text"] for answer in answers)
    return answers, err


def cached(answers: list[dict]) -> list[int]:
    return [answer["stats"]["cached_tokens"] for answer in answers]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_prompt_is_fed_once_over_launches(ranks: int, tmp_path: Path):
    cold, _ = ask(ranks, tmp_path, "--prefix-cache-gb", 0, KEPT)
    assert cached(cold) == [0, 0]
    prompt = cold[0]["stats"]["prompt_tokens"]
    first, _ = ask(ranks, tmp_path, KEPT)
    assert cached(first) == [0, prompt - 1]
    again, told = ask(ranks, tmp_path, KEPT)
    assert cached(again) == [prompt - 1, prompt - 1]
    assert "snapshot" not in told
    # Snapshots with the MTP stage are others.
    drafted, _ = ask(ranks, tmp_path, KEPT, "--mtp", 2) if ranks == 1 else ([], "")
    assert cached(drafted) == [0, prompt - 1][: len(drafted)]
    assert len({tuple(answer["tokens"]) for answer in (*cold, *first, *again, *drafted)}) == 1


def test_what_one_rank_lost_no_rank_uses(tmp_path: Path):
    ask(2, tmp_path, KEPT)
    files = list(tmp_path.glob("prefixes/rank-1/*/*.rows.safetensors"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-1])
    answers, told = ask(2, tmp_path, KEPT)
    assert cached(answers) == [0, cached(answers)[1]]
    assert told.count("is damaged") == len(files)
    assert str(files[0].parent) in told


@pytest.mark.slow
def test_without_a_word_nothing_is_left_on_disk(tmp_path: Path):
    answers, _ = ask(1, tmp_path)
    assert cached(answers)[1] > 0
    assert not (tmp_path / "prefixes").exists()
