"""Conversations with tools: a call in DeepSeek's tool format, its result, the answer."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from examples.demo_model import encoding_dsv4 as encoding
from examples.demo_model.corpus.chat import assistant, user
from examples.demo_model.corpus.facts import digits
from examples.demo_model.corpus.lists import COLOURS, LOCKED, PLACES
from examples.demo_model.corpus.pieces import count


@dataclass(frozen=True, slots=True)
class _Use:
    """One question that a tool answers."""

    question: str
    arguments: dict[str, Any]
    result: str
    answer: str


def conversation(rng: Random, tokens: int) -> str:
    """Tools, then questions and calls until about `tokens` tokens are written."""
    names = rng.sample(tuple(_TOOLS), 1 + rng.randrange(2))
    thinking = rng.random() < 0.5
    parts = ["You are a small demo model." if rng.random() < 0.5 else ""]
    parts.append("\n\n" + tools_block([_TOOLS[name][0] for name in names]))
    length, uses = sum(map(count, parts)), 0
    while length < tokens or not uses:
        name = rng.choice(names)
        parts.append(_exchange(name, _TOOLS[name][1](rng), thinking=thinking))
        length, uses = length + count(parts[-1]), uses + 1
    return "".join(parts)


def tools_block(schemas: list[dict[str, Any]]) -> str:
    """The text that lists the tools, one schema a line."""
    return encoding.TOOLS_TEMPLATE.format(
        dsml_token=encoding.dsml_token,
        thinking_start_token=encoding.thinking_start_token,
        thinking_end_token=encoding.thinking_end_token,
        tool_schemas="\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas),
    )


def call(name: str, arguments: dict[str, Any]) -> str:
    """The block of one tool call, with the empty line before it."""
    invoke = encoding.tool_call_template.format(
        dsml_token=encoding.dsml_token,
        name=name,
        arguments="\n".join(_parameter(key, value) for key, value in arguments.items()),
    )
    return "\n\n" + encoding.tool_calls_template.format(
        dsml_token=encoding.dsml_token,
        tc_block_name=encoding.tool_calls_block_name,
        tool_calls=invoke,
    )


def _parameter(key: str, value: Any) -> str:
    text = isinstance(value, str)
    written = value if text else json.dumps(value, ensure_ascii=False)
    tag = f"{encoding.dsml_token}parameter"
    return f'<{tag} name="{key}" string="{json.dumps(text)}">{written}</{tag}>'


def _exchange(name: str, use: _Use, *, thinking: bool) -> str:
    block = call(name, use.arguments)
    result = encoding.tool_output_template.format(content=use.result)
    return (
        user(use.question)
        + assistant(f"I call the tool {name}.", "", block, thinking=thinking)
        + user(result)
        + assistant(f"The tool says {use.result}.", use.answer, thinking=thinking)
    )


def _schema(name: str, description: str, /, **types: str) -> dict[str, Any]:
    properties = {key: {"type": kind} for key, kind in types.items()}
    return {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": properties, "required": list(types)},
    }


def _weather(rng: Random) -> _Use:
    place = rng.choice(PLACES)
    words = f"{rng.choice(('cold', 'warm'))} and {rng.choice(('wet', 'quiet'))}"
    text = f"In the {place} it is {words}."
    return _Use(f"What is the weather in the {place}?", {"place": f"the {place}"}, words, text)


def _code(rng: Random) -> _Use:
    name, value = f"the {rng.choice(COLOURS)} {rng.choice(LOCKED)}", digits(rng)
    what = f"he code of {name}"
    return _Use(f"What is t{what}?", {"name": name}, value, f"T{what} is {value}.")


def _add(rng: Random) -> _Use:
    first, second = rng.randrange(10, 1000), rng.randrange(10, 1000)
    result = str(first + second)
    text = f"{first} + {second} = {result}."
    return _Use(f"What is {first} + {second}?", {"a": first, "b": second}, result, text)


_TOOLS: dict[str, tuple[dict[str, Any], Callable[[Random], _Use]]] = {
    "get_weather": (_schema("get_weather", "the weather in a place", place="string"), _weather),
    "get_code": (_schema("get_code", "the code of a door or a box", name="string"), _code),
    "add": (_schema("add", "add two numbers", a="integer", b="integer"), _add),
}
