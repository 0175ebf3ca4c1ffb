"""generation_config.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from dsv4_tp.errors import ModelError
from dsv4_tp.text import Defaults, read_defaults


def defaults(tmp_path: Path, **keys: Any) -> Defaults:
    (tmp_path / "generation_config.json").write_text(json.dumps(keys))
    return read_defaults(tmp_path)


def test_the_file_s_numbers_are_taken(tmp_path: Path):
    numbers = {"temperature": 0.6, "top_p": 0.9, "top_k": 5, "min_p": 0.1}
    given = defaults(tmp_path, do_sample=True, **numbers, repetition_penalty=1.1, eos_token_id=1)
    assert given == Defaults(**numbers, repetition_penalty=1.1, eos_ids=(1,))


def test_without_sampling_it_is_greedy(tmp_path: Path):
    assert defaults(tmp_path, do_sample=False, temperature=0.6).temperature == 0


def test_several_ids_may_end_a_text(tmp_path: Path):
    assert defaults(tmp_path, eos_token_id=[1, 7]).eos_ids == (1, 7)


def test_without_the_file_nothing_is_changed(tmp_path: Path):
    assert read_defaults(tmp_path) == Defaults()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("do_sample", "no"),
        ("temperature", -1),
        ("min_p", 1.5),
        ("repetition_penalty", 0),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.5),
        ("top_k", 2.5),
        ("eos_token_id", "1"),
        ("eos_token_id", [1, "2"]),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, key: str, value: object):
    with pytest.raises(ModelError, match=rf"generation_config\.json: {key} is"):
        defaults(tmp_path, **{key: value})


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, text: str):
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"generation_config\.json"):
        read_defaults(tmp_path)
