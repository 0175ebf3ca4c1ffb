"""The generated text: the same everywhere, true in itself, and asking only what it has stated."""

import hashlib
import json
import re
from collections import Counter
from itertools import islice, pairwise

import pytest

from examples.demo_model import encoding_dsv4, tokenizer
from examples.demo_model.corpus import (
    chat,
    document,
    documents,
    facts,
    lookup,
    retrieval,
    rng_for,
    sequence,
    stories,
    sums,
    tools,
    words,
)
from examples.demo_model.corpus.pieces import pieces

TOKENIZER = tokenizer.load()
BOS, EOS = TOKENIZER.token_to_id(tokenizer.BOS), TOKENIZER.token_to_id(tokenizer.EOS)
STATED = re.compile(
    r"(The (?:code|password) of the \w+ \w+ is|The favourite \w+ of \w+ is(?: the)?"
    r"|The \w+ \w+ is in the)((?: \w+)+)\."
)
SAMPLE = range(150)
DISTANCES = (50, 100, 300, 1000)


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False).ids


def texts(kind, tokens=400, numbers=SAMPLE):
    return [kind(rng_for("train", number), tokens) for number in numbers]


def drawn(tokens=400, numbers=SAMPLE):
    return [document(rng_for("train", number), tokens=tokens) for number in numbers]


# The same text everywhere


@pytest.mark.parametrize(
    ("number", "digest"),
    [
        (0, "26ceef9f8073d4ba"),
        (1, "4f179ab0bdd75ced"),
        (2, "26e42bfad0d74592"),
        (3, "a8afba7d48ae9f41"),
        (4, "0e152777661660b0"),
        (5, "7c334a76d7c0be43"),
    ],
)
def test_a_document_is_the_same_on_every_platform(number, digest):
    text = document(rng_for("train", number), tokens=300)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_the_words_keep_their_ids():
    assert hashlib.sha256(json.dumps(words()).encode()).hexdigest()[:16] == "38dc59104d328114"


def test_the_splits_share_no_seed_and_no_text():
    train = {document(rng_for("train", number), tokens=300) for number in range(400)}
    held_out = {document(rng_for("held-out", number), tokens=300) for number in range(400)}
    assert not train & held_out
    assert rng_for("train", 7).random() != rng_for("held-out", 7).random()


def test_an_unknown_split_is_refused_by_name():
    with pytest.raises(ValueError, match=r"'test'.*held-out"):
        rng_for("test", 0)


# Words and lengths


def test_every_piece_of_the_text_is_one_token():
    for text in drawn():
        assert [TOKENIZER.decode([each], skip_special_tokens=False) for each in ids(text)] == (
            pieces(text)
        )


def test_every_word_is_used():
    used = {piece for text in drawn(numbers=range(900)) for piece in pieces(text)}
    assert set(words()) - used == set()


@pytest.mark.parametrize("tokens", [64, 300, 1000])
def test_a_document_has_about_the_tokens_asked_for(tokens):
    lengths = [len(ids(text)) for text in drawn(tokens)]
    assert abs(sum(lengths) / len(lengths) - tokens) < 60 + tokens * 0.1


def test_a_document_ends_with_the_end_token_and_never_begins_again():
    for text in drawn():
        assert text.endswith(tokenizer.EOS)
        assert tokenizer.BOS not in text


@pytest.mark.parametrize("length", [1, 2, 128, 777, 1088])
def test_a_sequence_has_exactly_its_length_and_begins_once(length):
    for number in range(40):
        row = sequence(rng_for("train", number), ids, length=length)
        assert len(row) == length
        assert row[0] == BOS
        assert BOS not in row[1:]


def test_most_sequences_are_one_document():
    rows = [sequence(rng_for("train", number), ids, length=1088) for number in range(200)]
    text = [TOKENIZER.decode(row, skip_special_tokens=False) for row in rows]
    plain = [each for each in text if "<｜User｜>" not in each]
    alone = sum(tokenizer.EOS not in each[:-200] for each in plain)
    assert 0.65 < alone / len(plain) < 0.95


def test_the_kinds_have_their_shares():
    marks = {"Remember:": "memory", "<｜DSML｜": "tools", "<｜User｜>": "chat"}
    kinds = Counter(
        next((kind for mark, kind in marks.items() if mark in text), "other")
        for text in drawn(300, range(1500))
    )
    shares = {kind: round(count / 1500, 2) for kind, count in kinds.items()}
    assert shares["memory"] == pytest.approx(0.25, abs=0.04)
    assert shares["chat"] == pytest.approx(0.12, abs=0.03)
    assert shares["tools"] == pytest.approx(0.05, abs=0.02)
    assert sum(share for _, share in documents.KINDS) == pytest.approx(1)


def test_a_short_text_has_no_tools_as_their_list_would_be_all_of_it():
    assert not any("Tools" in text for text in drawn(200, range(300)))


# Facts


@pytest.mark.parametrize("kind", [retrieval.woven, chat.chat, tools.conversation])
def test_no_document_contradicts_itself(kind):
    for text in texts(kind, 1000):
        known: dict[str, str] = {}
        for conversation in [text] if kind is not tools.conversation else text.split("<｜User｜>"):
            known = known if kind is not tools.conversation else {}
            for key, value in STATED.findall(conversation):
                assert known.setdefault(key, value) == value, text


def test_facts_never_share_a_key_and_run_out_only_with_the_keys():
    every = list(facts.facts(rng_for("train", 0)))
    assert len({fact.lead for fact in every}) == len({fact.question for fact in every})
    assert len({fact.lead for fact in every}) == len(every) == 144 + 96 + 48
    locked = re.findall(r"(?:code|password) of the (\w+ \w+)", " ".join(f.lead for f in every))
    assert len(set(locked)) == len(locked) == 144


def test_a_code_can_not_be_guessed():
    codes = [next(facts.facts(rng_for("train", n), "code")).value.strip() for n in range(1000)]
    assert len(set(codes)) > 900
    for place in range(4):
        assert all(60 < count < 140 for count in Counter(code[place] for code in codes).values())


def test_every_family_is_drawn():
    leads = [fact.lead for fact in islice(facts.facts(rng_for("train", 1)), 100)]
    for mark in ("code of", "password of", "is in the", "colour of", "food of", "animal of"):
        assert any(mark in lead for lead in leads), mark


def mentions(text: str) -> list[tuple[int, int]]:
    """(tokens since the value was last said, or -1; tokens of the value) of every statement."""
    last: dict[str, int] = {}
    found = []
    for match in STATED.finditer(text):
        place = len(pieces(text[: match.end(2)]))
        found.append((place - last.get(match[1], place + 1), len(pieces(match[2]))))
        last[match[1]] = place
    return found


def test_questions_reach_beyond_the_window_and_beyond_a_row_of_128():
    asked = [way for text in texts(retrieval.woven, 1088) for way, _ in mentions(text) if way > 0]
    assert sum(way > 32 for way in asked) / len(asked) > 0.9
    assert sum(way > 128 for way in asked) / len(asked) > 0.3
    assert sum(way > 512 for way in asked) / len(asked) > 0.02


def test_a_question_is_answered_with_what_was_stated():
    for text in texts(retrieval.woven, 600):
        sentences = re.split(r"(?<=[.?\"]) ", text)
        for place, (sentence, answer) in enumerate(pairwise(sentences)):
            if re.match(r"(What is|Where is) the", sentence):
                assert answer in sentences[:place]


def test_a_list_is_said_again_in_another_order():
    for text in texts(retrieval.memory, 500):
        first, *others = [re.split(r"[,.] ?", line.split(": ", 1)[1]) for line in text.split("\n")]
        assert others
        assert len(set(first)) >= 3 + 1  # the last piece is empty
        assert all(sorted(other) == sorted(first) for other in others)


def test_a_list_has_no_key_twice():
    for text in texts(retrieval.memory, 1000):
        entries = text.split("\n")[0].removeprefix("Remember: ")
        keys = [fact[0] for fact in STATED.findall(entries)] or [
            entry.split()[0] if entry.startswith(facts.NAMES) else " ".join(entry.split()[:2])
            for entry in entries.split(", ")
        ]
        assert len(set(keys)) == len(keys), entries


# Look-ups


def fact_of(asked, chat_form):
    """The sentence that begins the answer, up to the value, and the value."""
    if chat_form:
        return STATED.fullmatch(asked.answer).groups()
    return STATED.search(
        asked.prompt[asked.prompt.rindex("? ") + 2 :] + asked.answer + "."
    ).groups()


@pytest.mark.parametrize("chat_form", [False, True])
@pytest.mark.parametrize("distance", DISTANCES)
def test_a_lookup_states_its_value_once_and_as_far_back_as_asked(distance, chat_form):
    for seed in range(200):
        asked = lookup(rng_for("held-out", seed), ids, distance=distance, chat=chat_form)
        lead, value = fact_of(asked, chat_form)
        assert asked.prompt.count(f"{lead}{value}.") == 1
        assert asked.prompt.count(lead) == (1 if chat_form else 2)
        said = asked.prompt.index(f"{lead}{value}.") + len(lead + value)
        assert len(ids(asked.prompt)) - len(ids(asked.prompt[:said])) == asked.distance
        assert abs(asked.distance - distance) <= 3
        assert len(ids(asked.answer)) <= 24
        others = [key for key, _ in STATED.findall(asked.prompt[said:]) if key != lead]
        assert len(set(others)) == len(others) >= 3


@pytest.mark.parametrize("chat_form", [False, True])
def test_a_lookup_ends_where_its_answer_begins(chat_form):
    for seed in range(100):
        asked = lookup(rng_for("held-out", seed), ids, distance=120, chat=chat_form)
        assert ids(asked.prompt) + ids(asked.answer) == ids(asked.prompt + asked.answer)
        assert BOS not in ids(asked.prompt)
        if chat_form:
            assert asked.prompt.startswith("<｜User｜>")
            assert asked.prompt.endswith("?<｜Assistant｜></think>")
        else:
            assert re.search(r"\? The [^.?]*$", asked.prompt)
            assert re.fullmatch(r"\d{4}|( [a-z]+){1,2}", asked.answer)


def test_a_lookup_can_be_asked_for_more_facts_between():
    asked = lookup(rng_for("held-out", 3), ids, distance=400, between=20)
    assert len(STATED.findall(asked.prompt)) >= 21
    assert abs(asked.distance - 400) <= 3


def test_a_lookup_needs_room_for_its_facts():
    with pytest.raises(ValueError, match=r"distance is 20.*3 other facts"):
        lookup(rng_for("held-out", 0), ids, distance=20)


# Stories and sums


def test_stories_differ():
    told = [" ".join(stories.story(rng_for("train", number))) for number in range(500)]
    assert len(set(told)) == 500
    sentences = Counter(re.split(r"(?<=[.?]) ", " ".join(told)))
    assert len(sentences) > 1500


def test_a_key_is_found_before_it_opens_its_box():
    opened = 0
    for number in range(500):
        text = " ".join(stories.story(rng_for("train", number)))
        for colour, key in re.findall(r"opened the (\w+) box with the (\w+) key", text):
            opened += 1
            assert colour == key
            assert re.search(rf"an? {colour} key", text.split("opened the")[0])
    assert opened > 20


def test_who_asks_is_who_was_named():
    for number in range(300):
        text = " ".join(stories.story(rng_for("train", number)))
        names = set(re.findall("|".join(facts.NAMES), text))
        assert 1 <= len(names) <= 2, text
        assert not re.search(r"\ba [aeiou]", text)
        assert " together" not in text or len(names) == 2


def test_sums_are_right_and_so_are_their_steps():
    seen = 0
    for text in texts(sums.document):
        for term, result in re.findall(r"(\d+(?: [+-] \d+)+) = (\d+)", text):
            signed = re.sub(r"([+-]) ", r"\1", term).split()
            assert sum(map(int, signed)) == int(result), text
            seen += 1
        for first, second, more in re.findall(r"more, (\d+) or (\d+)\?.*? (\d+) is more", text):
            assert max(int(first), int(second)) == int(more)
    assert seen > 1000


def test_steps_lead_to_the_result():
    carried = 0
    for number in range(400):
        _, steps, answer = sums.problem(rng_for("train", number))
        if match := re.fullmatch(r"\d+ [+-] \d = (\d+), .* = (\d+)\.", steps):
            result = int(match[2]) * 10 + int(match[1]) % 10
            assert answer.endswith(f"= {result}.")
            carried += 1
    assert carried > 150


# Conversations


TURN = re.compile(
    r"<｜User｜>(?P<user>[^｜]*)<｜Assistant｜>(?P<think><think>[^<]+)?</think>(?P<answer>.*?)"
    r"<｜end▁of▁sentence｜>",
    re.DOTALL,
)


def turns(text: str) -> list[re.Match[str]]:
    """The turns of a conversation; a part that is no turn fails."""
    start = text.index("<｜User｜>")
    found = list(TURN.finditer(text, start))
    assert "".join(match[0] for match in found) == text[start:], text
    return found


def test_a_chat_is_in_the_role_format():
    for text in texts(chat.chat):
        found = turns(text)
        assert all(match["answer"] for match in found)
        # Thoughts of earlier turns are not kept in a prompt.
        assert not any(match["think"] for match in found[:-1])


def test_both_modes_are_there_and_the_effort_text_only_with_thinking():
    told = texts(chat.chat)
    thinking = [text for text in told if "<think>" in text]
    assert 0.25 < len(thinking) / len(told) < 0.55
    effort = [text for text in told if text.startswith(encoding_dsv4.REASONING_EFFORT_MAX)]
    assert effort
    assert set(effort) <= set(thinking)


def test_thoughts_hold_the_fact_or_the_steps():
    for text in texts(chat.chat):
        last = turns(text)[-1]
        if last["think"] and last["user"].endswith("?") and "asks for" in last["think"]:
            assert last["answer"] in last["think"]
            assert last["answer"] in "".join(match["user"] for match in turns(text))


CALL = re.compile(
    r'\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name="(\w+)">\n'
    r'((?:<｜DSML｜parameter name="\w+" string="(?:true|false)">[^<\n]+</｜DSML｜parameter>\n)+)'
    r"</｜DSML｜invoke>\n</｜DSML｜tool_calls>"
)
PARAMETER = re.compile(r'name="(\w+)" string="(true|false)">([^<]+)<')
JSON_TYPES = {"string": str, "integer": int}


def schemas(text: str) -> dict[str, dict[str, str]]:
    """Tool name -> parameter name -> type, as the tools block lists them."""
    listed = [json.loads(line) for line in text.split("\n") if line.startswith('{"name"')]
    return {
        tool["name"]: {key: kind["type"] for key, kind in tool["parameters"]["properties"].items()}
        for tool in listed
    }


def test_a_tool_call_is_well_formed_and_of_a_listed_tool():
    for text in texts(tools.conversation):
        listed = schemas(text)
        found = turns(text)
        assert len(found) % 2 == 0
        for asked, told in zip(found[::2], found[1::2], strict=True):
            name, written = CALL.fullmatch(asked["answer"]).groups()
            types = {}
            for key, raw, value in PARAMETER.findall(written):
                read = value if raw == "true" else json.loads(value)
                types[key] = next(kind for kind, of in JSON_TYPES.items() if type(read) is of)
            assert types == listed[name]
            result = re.fullmatch(r"<tool_result>(.+)</tool_result>", told["user"])[1]
            assert result in told["answer"]
            assert result not in asked[0]


def test_the_system_text_holds_the_tools_block_of_the_encoding_file():
    text = tools.conversation(rng_for("train", 1), 400)
    before, after = encoding_dsv4.TOOLS_TEMPLATE.split("{tool_schemas}")
    fields = {
        "dsml_token": "｜DSML｜",
        "thinking_start_token": "<think>",
        "thinking_end_token": "</think>",
    }
    assert "\n\n" + before.format(**fields) in text
    assert after + "<｜User｜>" in text
