"""Chats with the demo model on two real ranks, by the real client."""

import json
from typing import Annotated

import jsonschema
import pytest
from anthropic import Anthropic
from openai import OpenAI
from pydantic import BaseModel, ConfigDict, Field

from tests.cluster.clusters import Launch
from tests.cluster.test_http import endpoint

pytestmark = pytest.mark.cluster

QUESTION = "The code of the red door is 4182. What is the code of the red door?"


class Number(BaseModel):
    """What an answer is to be, in as few characters as may be."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"x-guidance": {"whitespace_pattern": ""}}
    )
    n: Annotated[int, Field(ge=10, le=99)]


def test_chats(start):
    cluster: Launch = start("--hosts", "localhost,localhost", "--model", "demo", "--batch", 2)
    client, name = endpoint(cluster)
    with client:
        cluster.wait_ready(ranks=2)
        assert name == "demo"
        it_thinks_then_answers(client)
        it_answers_at_once(client)
        a_conversation_with_a_tool(client)
        a_call_that_is_asked_for(client)
        a_form_begins_behind_the_thinking(client)
        two_answers_of_one_seed_come_again(client)
        the_same_in_the_words_of_responses(client)
        the_same_in_anthropic_s_words(client)


def ask(client: OpenAI, content: str = QUESTION, **how):
    messages = [{"role": "user", "content": content}]
    how = {"temperature": 0, "max_tokens": 90} | how
    return client.chat.completions.create(model="demo", messages=messages, **how)


def quick(**how):
    return {"extra_body": {"thinking": {"type": "disabled"}}} | how


def it_thinks_then_answers(client: OpenAI) -> None:
    chunks = [chunk.choices[0].delta for chunk in ask(client, stream=True)]
    thought = [getattr(each, "reasoning_content", None) or "" for each in chunks]
    assert "The user asks" in "".join(thought)
    assert "".join(each.content or "" for each in chunks) == "The code of the red door is 4182."
    begins = next(at for at, each in enumerate(chunks) if each.content)
    assert not any(thought[begins:])
    assert len([piece for piece in thought if piece]) > 5, "as it comes, not all at once"


def it_answers_at_once(client: OpenAI) -> None:
    (choice,) = ask(client, **quick()).choices
    assert choice.message.content == "The code of the red door is 4182."
    assert choice.finish_reason == "stop"


def a_conversation_with_a_tool(client: OpenAI) -> None:
    """It has learnt to look codes up."""
    parameters = {
        "type": "object",
        "properties": {"thing": {"type": "string"}},
        "required": ["thing"],
    }
    tool = {"type": "function", "function": {"name": "get_code", "parameters": parameters}}
    asked = {"role": "user", "content": "What is the code of the red door?"}
    how = {"model": "demo", "tools": [tool], "temperature": 0, "max_tokens": 90}
    (choice,) = client.chat.completions.create(messages=[asked], **how).choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "get_code")
    assert isinstance(json.loads(call.function.arguments), dict)
    answered = {"role": "tool", "tool_call_id": call.id, "content": "4182"}
    said = [asked, choice.message.model_dump(exclude_none=True), answered]
    (choice,) = client.chat.completions.create(messages=said, **how).choices
    assert "4182" in choice.message.content


def a_call_that_is_asked_for(client: OpenAI) -> None:
    """Of functions that it has never seen, for nothing that would need them."""
    properties = {
        "colour": {"enum": ["red", "blue"]},
        "coats": {"type": "integer", "minimum": 1, "maximum": 9},
    }
    parameters = {"type": "object", "properties": properties, "required": [*properties]}
    tools = [
        {"type": "function", "function": {"name": "paint", "parameters": parameters}},
        {"type": "function", "function": {"name": "wait"}},
    ]
    one = {"type": "function", "function": {"name": "paint"}}
    how = {"tools": tools, "parallel_tool_calls": False, "max_tokens": 250}
    (choice,) = ask(client, "Hello.", tool_choice=one, **how).choices
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("tool_calls", "paint")
    assert choice.message.reasoning_content
    jsonschema.validate(json.loads(call.function.arguments), parameters)
    (choice,) = ask(client, "Hello.", tool_choice="required", **how, **quick()).choices
    assert choice.message.content is None
    assert [each.function.name for each in choice.message.tool_calls] in (["paint"], ["wait"])


def a_form_begins_behind_the_thinking(client: OpenAI) -> None:
    asked = {"role": "user", "content": "Say a number."}
    how = {"model": "demo", "temperature": 0, "max_tokens": 90, "response_format": Number}
    (choice,) = client.chat.completions.parse(messages=[asked], **how).choices
    assert choice.message.reasoning_content
    assert 10 <= choice.message.parsed.n <= 99
    assert choice.finish_reason == "stop"


def two_answers_of_one_seed_come_again(client: OpenAI) -> None:
    how = quick(n=2, seed=5, temperature=1, max_tokens=20)
    one, other = (
        [choice.message.content for choice in ask(client, "Tell a story.", **how).choices]
        for _ in range(2)
    )
    assert one == other
    assert one[0] != one[1]


def the_same_in_the_words_of_responses(client: OpenAI) -> None:
    how = {"model": "demo", "temperature": 0, "max_output_tokens": 90}
    with client.responses.stream(input=QUESTION, **how) as stream:
        final = stream.get_final_response()
    thought, text = final.output
    assert "The user asks" in thought.content[0].text
    assert (final.output_text, text.status) == ("The code of the red door is 4182.", "completed")


def the_same_in_anthropic_s_words(openai: OpenAI) -> None:
    """It thinks, calls and answers; what is counted is what is fed."""
    root = str(openai.base_url).removesuffix("/v1/")
    schema = {"type": "object", "properties": {"thing": {"type": "string"}}, "required": ["thing"]}
    tools = [{"name": "get_code", "input_schema": schema}]
    asked = {"role": "user", "content": "What is the code of the red door?"}
    how = {"model": "demo", "tools": tools, "max_tokens": 90, "extra_body": {"temperature": 0}}
    how |= {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    with Anthropic(base_url=root, api_key="-", max_retries=0, timeout=60) as client:
        simple = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 90}
        (text,) = client.messages.create(
            model="demo", extra_body=how["extra_body"], **simple
        ).content
        assert text.text == "The code of the red door is 4182."
        must = {"tool_choice": {"type": "any"}}
        with client.messages.stream(messages=[asked], **how, **must) as stream:
            first = stream.get_final_message()
        thought, call = first.content
        assert (first.stop_reason, thought.type, call.name) == ("tool_use", "thinking", "get_code")
        result = {"type": "tool_result", "tool_use_id": call.id, "content": "4182"}
        said = [asked, first.to_param(), {"role": "user", "content": [result]}]
        second = client.messages.create(messages=said, **how)
        assert "4182" in second.content[-1].text
        assert second.stop_reason == "end_turn"
        told = {key: how[key] for key in ("model", "tools", "thinking")}
        counted = client.messages.count_tokens(messages=said, **told).input_tokens
        usage = second.usage
        assert counted == usage.input_tokens + usage.cache_read_input_tokens
