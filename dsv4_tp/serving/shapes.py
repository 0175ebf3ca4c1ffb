"""What is answered, as clients may read it: the shapes of our JSON, for /openapi.json."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """All of its fields are always there, and no others."""

    model_config = ConfigDict(extra="forbid")


class Description(BaseModel):
    """What can be asked for, in the words of OpenAPI 3.1."""

    openapi: str


class Fault(Shape):
    """What went wrong."""

    message: str
    type: str
    param: str | None  # the field
    code: str | None


class Error(Shape):
    """Instead of an answer, or at the end of a stream that failed."""

    error: Fault


class Live(Shape):
    """The process answers."""

    state: Literal["live"]


class RankHealth(Shape):
    """One rank."""

    rank: int
    host: str
    phase: str


class Health(BaseModel):
    """The cluster; who has no key learns no ranks and no reason."""

    state: str
    epoch: int
    ranks: list[RankHealth] = []
    reason: str | None = None  # why it takes no requests


class Model(Shape):
    """The model that is here."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    max_model_len: int  # most tokens of prompt and answer


class Models(Shape):
    """All of them: one."""

    object: Literal["list"]
    data: list[Model]


class PromptDetails(Shape):
    """Of the prompt's tokens."""

    cached_tokens: int


class Usage(Shape):
    """What all answers to a request cost."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails


class ThoughtDetails(Shape):
    """Of the answer's tokens."""

    reasoning_tokens: int


class ChatUsage(Usage):
    """What all answers of a chat cost."""

    completion_tokens_details: ThoughtDetails


class CompletionLogprobs(Shape):
    """Of each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class CompletionChoice(Shape):
    """One text, or some of it."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: str | None


class Completion(Shape):
    """Texts."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage


class CompletionChunk(BaseModel):
    """Some of a text."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class CalledFunction(Shape):
    """What is to be called."""

    name: str
    arguments: str  # a JSON object


class CallMade(Shape):
    """A call of a tool."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Message(BaseModel):
    """An answer."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    reasoning_content: str = ""
    tool_calls: list[CallMade] = []


class ChatChoice(Shape):
    """One answer."""

    index: int
    message: Message
    logprobs: dict[str, Any] | None
    finish_reason: str


class ChatCompletion(Shape):
    """Answers."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage


class ChatDelta(Shape):
    """What some of an answer adds to it."""

    index: int
    delta: dict[str, Any]
    logprobs: dict[str, Any] | None
    finish_reason: str | None


class ChatChunk(BaseModel):
    """Some of an answer."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatDelta]
    usage: ChatUsage | None = None


class Response(BaseModel):
    """An answer, in OpenAI's later words; what it was asked with is in it, too."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]]  # reasoning, messages and calls, in their order


class ThinkingDetails(Shape):
    """Of the answer's tokens."""

    thinking_tokens: int


class AnthropicUsage(Shape):
    """What an answer cost; what was read from a cache is counted apart."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingDetails


class AnthropicMessage(BaseModel):
    """An answer, in Anthropic's words."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[dict[str, Any]]  # blocks of thinking, text and calls, in their order
    stop_reason: str | None
    stop_sequence: str | None
    usage: AnthropicUsage


class AnthropicFault(BaseModel):
    """What went wrong."""

    type: str
    message: str


class AnthropicError(Shape):
    """Instead of an answer, in Anthropic's words."""

    type: Literal["error"]
    error: AnthropicFault
    request_id: str


class Event(BaseModel):
    """One of a stream whose events have names."""

    type: str  # its name


class Count(Shape):
    """Of tokens."""

    input_tokens: int
