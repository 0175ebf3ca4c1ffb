"""What requests have in common: sampling, streams, and how a fault is named."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Annotated, Any, ClassVar, TypeVar, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, ErrorDetails

from dsv4_tp.asks import Ask, Conversation
from dsv4_tp.core import MOST_STOPS
from dsv4_tp.errors import RequestError
from dsv4_tp.serving.failures import FieldError

Count = Annotated[int, Field(ge=0, lt=2**31)]
TokenId = Annotated[int, Field(ge=0, lt=2**31)]
_Seed = Annotated[int, Field(ge=0, lt=2**64)]
_MOST_CHOICES = 16
_MOST_BIASES = 2**14
# How long lists may be: each fault of one would be told, and there is room for a million.
TURNS, PARTS, TOOLS = (Field(max_length=most, fail_fast=True) for most in (2**14, 1024, 128))
_MOST_SHOWN = 60  # characters of a client's words in a message

OPENAI_RECORDS = frozenset(
    {"metadata", "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "user"}
)
_SAMPLING = frozenset(
    {
        *("max_tokens", "temperature", "top_p", "top_k", "min_p", "seed"),
        *("repetition_penalty", "presence_penalty", "frequency_penalty"),
        *("logit_bias", "time_limit_s"),
    }
)
_EXPECTED = {
    "prompt": "Input should be a text, or token ids",
    "stop": "Input should be a text, or a list of texts",
    "content": "Input should be a text, or a list of parts with text",
    "tool_choice": 'Input should be "none", "auto", "required" or one function',
}

_UNTYPED = ("union_tag_invalid", "union_tag_not_found")
# OpenAI's words for faults of pydantic.
_CODES = {"missing": "missing_required_parameter", "too_long": "array_above_max_length"}

# As they come in the path to a fault.
_TYPES = frozenset({"str", "int", "float", "bool", "dict"})
_MAPS = frozenset({"logit_bias", "metadata"})

# Of fields that would change the answer, the values with which they do not.
Idle = Mapping[str, tuple[Any, ...]]
_T = TypeVar("_T", bound="Strict")


def _few(said: object) -> object:
    """Each fault in it would be told, and there is room for a million."""
    if isinstance(said, dict) and len(cast(dict[str, object], said)) > _MOST_BIASES:
        raise ValueError(f"there are more than {_MOST_BIASES:,}; give fewer")
    return cast(object, said)


# Keys of JSON are texts; behind a validator of ours pydantic does not know that this is JSON.
_Biases = Annotated[
    dict[Annotated[TokenId, Field(strict=False)], float] | None, BeforeValidator(_few)
]


class Strict(BaseModel):
    """Fields are of just the type they say, and others are kept to be looked at."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    idle: ClassVar[Idle] = {}
    records: ClassVar[Collection[str]] = ()  # what clients say for their own; it changes no answer

    def check(self) -> None:
        """Raises RequestError for what the types do not show."""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Tells also what is taken of other fields."""
        told = handler(core_schema)
        schema = handler.resolve_ref_schema(told)
        schema["additionalProperties"] = False
        schema["properties"] |= {name: {"enum": [*each]} for name, each in cls.idle.items()}
        schema["properties"] |= {name: {} for name in sorted(cls.records)}
        return told


def by_type(usual: str | None = None) -> Discriminator:
    """Tells by its `type`, or the usual one, which of a union is meant, whose members have tags.

    They are names as classes have them, so that they are none of a field in the path to a fault.
    """

    def tag(said: Any) -> str | None:
        name = cast(dict[str, object], said).get("type", usual) if isinstance(said, dict) else None
        return name.title().replace("_", "") if isinstance(name, str) else None

    return Discriminator(tag)


BY_TYPE = by_type()


class StreamOptions(Strict):
    """What a stream tells beside its text."""

    include_usage: bool = False


class Sampled(Strict):
    """What every text may be asked with; where it says nothing, the checkpoint's makers have."""

    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: Count | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: _Biases = None
    seed: _Seed | None = None
    time_limit_s: float | None = None
    stream: bool | None = None

    def asked(self, prompt: str | Sequence[int] | Conversation) -> Ask:
        """What comes after that prompt."""
        return Ask(prompt, **self.model_dump(include=set(_SAMPLING)))


class TextRequest(Sampled):
    """The same in OpenAI's older words."""

    records: ClassVar[Collection[str]] = OPENAI_RECORDS
    max_tokens: Count | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS, fail_fast=True)] | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = None
    stream_options: StreamOptions | None = None

    def asked(self, prompt: str | Sequence[int] | Conversation) -> Ask:
        """What comes after that prompt."""
        return replace(super().asked(prompt), stop=self.stop or ())

    def check(self) -> None:
        """Raises RequestError for options of a stream where there is none."""
        if self.stream_options and not self.stream:
            raise RequestError("stream_options: there is no stream; say stream: true")

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with what it cost."""
        return bool(self.stream_options and self.stream_options.include_usage)


def parsed(model: type[_T], body: bytes) -> _T:
    """The request in a body.

    Raises RequestError: it is not JSON, or a field, which is named, is not what it must be, or is
    none that is known here.
    """
    try:
        asked = model.model_validate_json(body)
    except ValidationError as error:
        raise _first_fault(error) from error
    _check_extra(asked)
    asked.check()
    return asked


def _check_extra(asked: Strict, at: str = "") -> None:
    """RequestError if a field is said that nobody knows, or one that cannot be served."""
    known = (*type(asked).model_fields, *asked.idle)
    for name, said in (asked.model_extra or {}).items():
        if name in asked.idle:
            if said not in asked.idle[name]:
                words = f"{at}{name} is {_short(repr(said))}; it cannot be served, leave it out"
                raise FieldError(words, "unsupported_parameter")
        elif name not in asked.records:
            words = f"{at}{_short(name)}: {_unknown(_short(name), known)}"
            raise FieldError(words, "unknown_parameter")
    for name, value in asked:
        _check_parts(value, f"{at}{name}")


def _check_parts(value: object, at: str) -> None:
    if isinstance(value, Strict):
        _check_extra(value, f"{at}.")
    elif isinstance(value, list):
        for number, each in enumerate(cast(list[object], value)):
            _check_parts(each, f"{at}[{number}]")


def _unknown(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1)
    return "there is no such field" + (f"; did you mean {near[0]}?" if near else "")


def _short(words: str) -> str:
    return words if len(words) <= _MOST_SHOWN else f"{words[:_MOST_SHOWN]}..."


def _first_fault(error: ValidationError) -> RequestError:
    # Of a choice of types each is told; the one that was meant got furthest.
    fault = max(error.errors(include_url=False), key=_depth)
    said = fault["msg"].removeprefix("Value error, ")
    names = _names(fault["loc"])
    if not names:
        return FieldError(f"not a JSON object: {said}", None)
    if fault["type"] in _UNTYPED and isinstance(fault["input"], dict):
        return FieldError(f"{_place(names)}.type: {_expected_type(fault)}", _code(fault["type"]))
    if fault["type"] in ("model_type", *_UNTYPED):
        said = "Input should be an object"
    elif fault["type"] not in ("value_error", "missing", "literal_error", "too_long"):
        said = _EXPECTED.get(str(names[-1]), said)
    return FieldError(f"{_place(names)}: {said}", _code(fault["type"]))


def _depth(fault: ErrorDetails) -> tuple[int, bool]:
    return len(_names(fault["loc"])), fault["type"] == "too_long"


def _code(fault: str) -> str:
    """What OpenAI's API calls such a fault."""
    return "invalid_type" if fault.endswith("_type") else _CODES.get(fault, "invalid_value")


def _expected_type(fault: ErrorDetails) -> str:
    if fault["type"] == "union_tag_not_found":
        return "Field required"
    known = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", fault.get("ctx", {})["expected_tags"])
    return f"Input should be one of {known.lower()}"


def _names(loc: tuple[int | str, ...]) -> list[int | str]:
    """Of fields and places in lists, without the names of types and the keys of maps."""
    names: list[int | str] = []
    for each in loc:
        if names[-1:] and names[-1] in _MAPS:
            break
        if isinstance(each, int) or (_is_name(each) and each not in _TYPES):
            names.append(each)
    return names


def _is_name(word: str) -> bool:
    """Not one of a class, nor of a list of something."""
    return word.isidentifier() and word.islower()


def _place(names: list[int | str]) -> str:
    """messages[3].content."""
    words = (f"[{each}]" if isinstance(each, int) else f".{each}" for each in names)
    return "".join(words).removeprefix(".")
