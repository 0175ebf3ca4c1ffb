"""The demo model's tokenizer: words, bytes for all else, and what other programs ask of it."""

import ast
import json
from pathlib import Path
from random import Random

import pytest
from tokenizers import Tokenizer

from dsv4_tp.text import Text
from examples.demo_model import encoding_dsv4, tokenizer
from examples.demo_model.corpus import words

TOKENIZER = tokenizer.load()
NOT_SPECIAL = ("<think>", "</think>", "｜DSML｜")
SPECIAL = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜latest_reminder｜>",
    "<｜action｜>",
    "<｜query｜>",
    "<｜authority｜>",
    "<｜domain｜>",
    "<｜title｜>",
    "<｜read_url｜>",
)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def tokens(text: str) -> list[str]:
    return [TOKENIZER.decode([each], skip_special_tokens=False) for each in ids(text)]


def back(text: str) -> str:
    return TOKENIZER.decode(ids(text), skip_special_tokens=False)


def arbitrary(rng: Random) -> str:
    """Characters of all planes, spaces and words of the corpus, in any order."""
    pools = (
        lambda: chr(rng.randrange(0x80)),
        lambda: chr(rng.randrange(0xA0, 0x3000)),
        lambda: chr(rng.randrange(0x1F300, 0x1FAFF)),
        lambda: rng.choice(("  ", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "'s", "½")),
        lambda: rng.choice(words()),
        lambda: rng.choice(SPECIAL + NOT_SPECIAL),
    )
    return "".join(rng.choice(pools)() for _ in range(rng.randrange(40)))


def test_has_exactly_the_ids_that_the_embedding_has_rows_for():
    assert TOKENIZER.get_vocab_size(with_added_tokens=True) == 640
    assert sorted(TOKENIZER.get_vocab(with_added_tokens=True).values()) == list(range(640))


def test_the_first_ids_are_those_of_the_release():
    assert [TOKENIZER.token_to_id(word) for word in SPECIAL[:3]] == [0, 1, 2]


@pytest.mark.parametrize("word", SPECIAL + NOT_SPECIAL)
def test_a_special_token_is_one_token_and_hidden_only_if_the_release_hides_it(word):
    assert tokens(f"a{word} b") == ["a", word, " ", "b"]
    hidden = TOKENIZER.decode(ids(word), skip_special_tokens=True) == ""
    assert hidden == (word in SPECIAL)


def test_every_word_of_the_corpus_is_one_token():
    assert [word for word in words() if len(ids(word)) != 1] == []


def test_no_word_is_listed_twice():
    assert len(set(words())) == len(words())


def test_words_digits_and_signs_are_cut_as_the_corpus_expects():
    assert tokens("The code of the red door is 4182.") == [
        *("The", " code", " of", " the", " red", " door", " is"),
        *(" ", "4", "1", "8", "2", "."),
    ]
    assert tokens('27 + 15 = 42. "Yes," said') == [
        *("2", "7", " +", " ", "1", "5", " =", " ", "4", "2", ".", ' "', "Yes", ',"', " said"),
    ]


def test_an_unknown_word_falls_back_to_its_bytes():
    assert tokens("doorx") == list("doorx")
    assert len(ids("é€")) == 5


@pytest.mark.parametrize("seed", range(300))
def test_any_text_survives_the_round_trip(seed):
    text = arbitrary(Random(seed))
    assert back(text) == text


def test_every_byte_has_a_token():
    every = "".join(map(chr, range(0x100))) + "\U0010ffff\u0800\ud7ff"
    assert back(every) == every


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(AssertionError, match="room for 500"):
        tokenizer.tokenizer_json(500)


def save(folder: Path) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer.tokenizer_json()))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer.tokenizer_config(4096)))
    return folder


def test_loads_the_same_from_its_file(tmp_path):
    other = Tokenizer.from_file(str(save(tmp_path) / "tokenizer.json"))
    text = "One day Anna was in the barn.<｜end▁of▁sentence｜>\nünknown"
    assert other.encode(text, add_special_tokens=False).ids == ids(text)


def test_loads_through_transformers_with_the_same_ids(tmp_path):
    transformers = pytest.importorskip("transformers")
    other = transformers.AutoTokenizer.from_pretrained(str(save(tmp_path)))
    text = "<｜User｜>Where is the gold hat? 4182 ü<｜Assistant｜></think>"
    assert other.encode(text, add_special_tokens=False) == ids(text)
    assert other.encode(text) == ids(text)  # no BOS of its own accord
    assert other.decode(ids(text)) == text
    assert (other.bos_token_id, other.eos_token_id, other.chat_template) == (0, 1, None)


def test_streams_words_through_the_projects_own_detokenizer(tmp_path):
    text = Text.load(save(tmp_path))
    words_in = 'The old king said: "Yes, 42 € ja!"\n\n'
    stream = text.stream()
    out = "".join(stream.add([each]) for each in text.prompt_ids(words_in)) + stream.finish()
    assert out == words_in


def constants() -> dict[str, ast.expr]:
    """Name and value of every assignment in the encoding file, read and not run."""
    body = ast.parse(Path(encoding_dsv4.__file__).read_text()).body[1:]
    pairs = [
        (line.target, line.value)
        if isinstance(line, ast.AnnAssign)
        else (line.targets[0], line.value)
        for line in body
    ]
    return {target.id: value for target, value in pairs}


def read(value: ast.expr, known: dict[str, object]) -> object:
    """A literal, or such joined with earlier names by `+`."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        return read(value.left, known) + read(value.right, known)
    return known[value.id] if isinstance(value, ast.Name) else ast.literal_eval(value)


def test_the_encoding_file_is_read_without_running_it():
    known: dict[str, object] = {}
    for name, value in constants().items():
        known[name] = read(value, known)
    assert known == {name: getattr(encoding_dsv4, name) for name in known}
    names = {"TOOLS_TEMPLATE", "REASONING_EFFORT_MAX", "tool_call_template", "thinking_template"}
    assert names <= known.keys()
    assert "REASONING_EFFORT_PROMPTS" not in known  # that name would mean the other effort table


def test_the_encoding_file_names_the_tokenizers_own_tokens():
    named = [
        encoding_dsv4.bos_token,
        encoding_dsv4.eos_token,
        encoding_dsv4.thinking_start_token,
        encoding_dsv4.thinking_end_token,
        encoding_dsv4.dsml_token,
        encoding_dsv4.USER_SP_TOKEN,
        encoding_dsv4.ASSISTANT_SP_TOKEN,
        encoding_dsv4.LATEST_REMINDER_SP_TOKEN,
        *encoding_dsv4.DS_TASK_SP_TOKENS.values(),
    ]
    assert [name for name in named if len(ids(name)) != 1] == []
    assert set(named) == {*SPECIAL, *NOT_SPECIAL} - {"<｜▁pad▁｜>"}


def test_every_template_takes_the_fields_that_are_filled_in():
    fields = {
        "system_msg_template": ("content",),
        "user_msg_template": ("content",),
        "latest_reminder_msg_template": ("content",),
        "assistant_msg_template": ("reasoning", "content", "tool_calls"),
        "assistant_msg_wo_eos_template": ("reasoning", "content", "tool_calls"),
        "thinking_template": ("reasoning_content",),
        "response_format_template": ("schema",),
        "tool_call_template": ("dsml_token", "name", "arguments"),
        "tool_calls_template": ("dsml_token", "tc_block_name", "tool_calls"),
        "tool_output_template": ("content",),
        "TOOLS_TEMPLATE": (
            *("dsml_token", "thinking_start_token", "thinking_end_token", "tool_schemas"),
        ),
    }
    for name, needed in fields.items():
        filled = getattr(encoding_dsv4, name).format(**{field: f"[{field}]" for field in needed})
        assert all(f"[{field}]" in filled for field in needed), name
