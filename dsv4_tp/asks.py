"""What is asked for and what is heard of it: a text in the making, in our own words.

The same wherever it comes from and goes to: a program in Python, gRPC, HTTP. A part that is missing
is somebody else's to choose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsv4_tp.core import FinishReason
from dsv4_tp.errors import Dsv4Error


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model calls."""

    name: str
    arguments: str  # as JSON, normally; as it was given or said
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A turn of a conversation."""

    role: str  # system, developer, user, assistant, tool, latest_reminder
    content: str = ""
    reasoning: str = ""  # of an assistant
    tool_calls: tuple[ToolCall, ...] = ()  # of an assistant
    tool_call_id: str = ""  # of a tool: the call that this answers
    tools: tuple[str, ...] = ()  # of system or developer: each function object, as JSON
    response_format: str = ""  # of system or developer: the JSON schema, as JSON
    task: str = ""  # a quick task (action, query, authority, domain, title, read_url)
    open: bool = False  # of an assistant: it is to be gone on with


@dataclass(frozen=True, slots=True)
class Calls:
    """What an answer's calls of tools are held to, beside the tools' own schemas."""

    required: bool = False  # it is calls, and nothing else behind the thinking
    name: str = ""  # of this function only; empty: of any
    single: bool = False  # one at most


@dataclass(frozen=True, slots=True)
class Conversation:
    """What was said so far; the answer begins with its thinking, or behind it."""

    messages: tuple[Message, ...]
    thinking: bool = True
    effort: str = ""  # in the checkpoint's words; empty: its own choice
    calls: Calls | None = None  # None: it calls tools as it likes


@dataclass(frozen=True, slots=True)
class Ask:
    """A text to continue. What is None is the cluster's to choose: generation_config.json."""

    # Text, token ids that are used as given, or a conversation, whose answer shows its tags.
    prompt: str | Sequence[int] | Conversation
    chat: bool = False  # the prompt is one user turn, not raw text
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Mapping[int, float] | None = None  # by token id
    logprobs: int | None = None  # alternatives to each token; None: no log-probabilities
    stop: str | Sequence[str] = ()  # the text ends before the first of these; at most 16
    stop_ids: Sequence[int] = ()  # tokens that end it, beside the checkpoint's own
    mtp: int | None = None  # most tokens drafted ahead; 0: none
    json_schema: str | None = None  # JSON; the text is one that validates against it
    time_limit_s: float | None = None  # from its arrival, waiting included; None: the cluster's


@dataclass(frozen=True, slots=True)
class Stats:
    """What a generated text cost."""

    prompt_tokens: int
    generated_tokens: int
    prefill_s: float
    decode_s: float
    tokens_per_s: float  # of the decode steps
    collectives_per_token: float
    wire_bytes_per_token: float  # payload one rank sends, one way
    cached_tokens: int = 0  # of the prompt, that an earlier one had begun with
    drafted_tokens: int = 0  # fed as guesses
    accepted_tokens: int = 0  # of the drafted ones
    queue_s: float = 0.0  # from its arrival to its start
    first_token_s: float | None = None  # from its arrival to its first token, if it has one
    restarts: int = 0  # how often it went on with ranks that were started again


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a text."""

    reason: FinishReason
    stats: Stats
    stop: str = ""  # the stop string that ended it, where one did and it is known


@dataclass(frozen=True, slots=True)
class Logprob:
    """How likely the model held a token, and what it held likeliest; in nats."""

    logprob: float
    top: tuple[tuple[int, float], ...]  # ids and theirs, the likeliest first


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more of a text; the last piece has the finish."""

    tokens: tuple[int, ...]
    text: str
    finish: Finish | None
    logprobs: tuple[Logprob, ...] = ()  # of each token, where asked


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole text, and what it cost."""

    text: str
    tokens: tuple[int, ...]
    finish: Finish
    logprobs: tuple[Logprob, ...] = ()  # of each token, where asked

    @property
    def reason(self) -> FinishReason:
        """Why it ended."""
        return self.finish.reason


def ask_of(ask: Ask | str) -> Ask:
    """A prompt alone asks with all settings as the cluster chooses."""
    return Ask(ask) if isinstance(ask, str) else ask


def whole(pieces: Sequence[Piece]) -> Answer:
    """The text that came in these pieces; Dsv4Error if its end is missing."""
    finish = pieces[-1].finish if pieces else None
    if finish is None:
        raise Dsv4Error("the text ended without a finish")
    return Answer(
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.tokens),
        finish,
        tuple(each for piece in pieces for each in piece.logprobs),
    )
