"""The nouns every layer shares: spans, a rank's part of the model, requests, commands, events.

Frozen data without behaviour beyond simple arithmetic. Nothing here knows MLX, gRPC or files.
"""

from dataclasses import astuple, dataclass
from enum import IntEnum, StrEnum
from operator import add

MOST_STOPS = 16  # strings that may end one text
SHUTTING_DOWN = "the cluster is shutting down"  # why ranks that are to leave refuse a request


@dataclass(frozen=True, slots=True)
class Span:
    """The half-open range [start, stop) of integers."""

    start: int
    stop: int

    def __post_init__(self) -> None:
        assert 0 <= self.start <= self.stop, f"not a span: [{self.start}, {self.stop})"

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Part:
    """What one rank holds of every tensor that is split; all else is replicated.

    An empty span is legal: the module is not built and its contribution is zero.
    """

    heads: Span  # attention heads: rows of wq_b, attn_sink, wo_a's and wo_b's columns
    experts: Span  # routed experts held whole or in part
    expert_width: Span  # channels of each held routed expert: w1/w3 rows, w2 columns
    shared_width: Span  # channels of the shared expert
    vocab: Span  # rows of head


class ExpertSplit(StrEnum):
    """How routed experts are shared out: every expert's width, or whole experts."""

    WIDTH = "width"
    WHOLE = "whole"


class AttentionSplit(StrEnum):
    """How attention is shared out: by heads, or not, so that each rank computes all of it."""

    SPLIT = "split"
    WHOLE = "whole"


class DType(StrEnum):
    """The dtype activations and unquantised weights are held in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class CacheRows(StrEnum):
    """What caches hold of a row: all of it, or what the model was trained to see of it."""

    EXACT = "exact"  # in the dtype of activations
    TRAINED = "trained"  # FP8 and rotated channels, FP4 for the indexer: about half the bytes


class Kernels(StrEnum):
    """What does the arithmetic for which MLX has no operation of its own."""

    PLAIN = "plain"  # many operations of MLX
    METAL = "metal"  # kernels of ours, on a Mac's GPU (docs/numerics.md)


class Backend(StrEnum):
    """Which of MLX's transports joins the ranks (docs/transport.md)."""

    RING = "ring"  # TCP
    JACCL = "jaccl"  # RDMA over Thunderbolt, with a cable between each two hosts
    JACCL_RING = "jaccl-ring"  # the same, with a cable from each host to the next
    AUTO = "auto"  # whichever of the last two the cables make up; else the first


MOST_IN_MESH = 8  # ranks, of JACCL

Devices = str | tuple[str, ...] | None  # of one rank towards another: one cable's, several's, none
Row = tuple[Devices, ...]  # of one rank, by rank


@dataclass(frozen=True, slots=True)
class Rdma:
    """How JACCL joins the ranks: `matrix[i][j]` are rank i's RDMA devices towards rank j."""

    ring: bool  # from each to the next; False: between each two
    matrix: tuple[Row, ...]


class FinishReason(StrEnum):
    """Why a request ended, in the words of the OpenAI API."""

    STOP = "stop"  # a stop token, or a stop string
    LENGTH = "length"  # max_tokens
    CANCELLED = "cancelled"
    FAILED = "failed"  # the model's numbers were none
    TIMEOUT = "timeout"  # its time limit


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is chosen; docs/sampling.md says what each does. temperature 0 is greedy."""

    temperature: float = 1.0
    top_p: float = 1.0  # 1: off
    top_k: int = 0  # 0: off
    seed: int = 0
    min_p: float = 0.0  # 0: off
    repetition_penalty: float = 1.0  # 1: off
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: tuple[tuple[int, float], ...] = ()  # of ids, each once
    logprobs: int | None = None  # so many alternatives to each token; None: not even its own


@dataclass(frozen=True, slots=True)
class Request:
    """One sequence to continue: the prompt's ids, when to stop and how to choose."""

    id: str
    prompt: tuple[int, ...]
    max_tokens: int
    sampling: Sampling
    stop_ids: tuple[int, ...] = ()
    mtp: int | None = None  # most tokens drafted ahead; None: the cluster's own choice
    form: str = ""  # a JSON schema or a grammar that the text is held to; empty: none
    told: tuple[int, ...] = ()  # its text so far: it goes on behind it, as if never interrupted
    form_after: int | None = None  # a token: only what follows it is held to the form

    @property
    def given(self) -> tuple[int, ...]:
        """All that is fed before its next token is chosen."""
        return self.prompt + self.told


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """Teacher-forced scoring of equally long rows, fed in pieces of `chunk` tokens (0: whole)."""

    id: str
    rows: tuple[tuple[int, ...], ...]
    chunk: int = 0
    want_logits: bool = False


@dataclass(frozen=True, slots=True)
class Submit:
    """Start this request when its turn comes."""

    request: Request | ScoreRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """End the named request at the next step border."""

    request_id: str


@dataclass(frozen=True, slots=True)
class Drain:
    """Finish what is running, then leave."""


@dataclass(frozen=True, slots=True)
class Command:
    """One line of the log that every rank applies in the same order; `number` starts at 1."""

    number: int
    action: Submit | Cancel | Drain


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One generated token; `index` counts from 0 within its request.

    Log-probabilities come where the request asks for them, in nats: the token's, and those of the
    likeliest ids.
    """

    request_id: str
    index: int
    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class FinishEvent:
    """The end of a request, with what it cost on this rank."""

    request_id: str
    reason: FinishReason
    prompt_tokens: int
    generated_tokens: int
    prefill_s: float
    decode_s: float
    collectives: int  # during the decode steps
    wire_bytes: int  # payload this rank sent during the decode steps, one way
    error: str = ""  # not empty: why the request was refused, or failed
    decode_steps: int = 0  # the first token comes with the prompt, without one
    cached_tokens: int = 0  # of the prompt, that were in a snapshot
    drafted_tokens: int = 0  # guessed, and fed in the decode steps
    accepted_tokens: int = 0  # of them, that were right; each step told one token more
    # The coordinator fills these in. What was lost with an epoch counts as waiting.
    queue_s: float = 0.0  # from its arrival there to its start
    first_token_s: float | None = None  # from its arrival to its first token, if it has one
    restarts: int = 0  # how often it went on in another epoch


@dataclass(frozen=True, slots=True)
class ScoreEvent:
    """A piece of a score: the nll of every row with the last piece, logits when asked for."""

    request_id: str
    start: int  # position of the first row of `logits`
    logits: bytes = b""  # float32, C order [B, count, vocab]
    count: int = 0
    nll: tuple[float, ...] = ()  # nats per token, one per row, only in the last piece
    last: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """What some steps did and cost, all of them together."""

    steps: int = 0
    rows: int = 0  # sequences, in each step anew
    tokens: int = 0  # fed of prompts and scores, or told by decode steps
    collectives: int = 0
    wire_bytes: int = 0  # payload a rank sent, one way
    time_s: float = 0.0

    def __add__(self, more: "Work") -> "Work":
        """Both together."""
        return Work(*map(add, astuple(self), astuple(more)))


@dataclass(frozen=True, slots=True)
class StepEvent:
    """One step of all ranks; a chunk of a prompt or of a score, or a decode step."""

    phase: str  # prefill, decode
    work: Work
    running: int  # requests that have a place after it


Told = TokenEvent | FinishEvent | ScoreEvent  # of one request
Event = Told | StepEvent


@dataclass(frozen=True, slots=True)
class RankReport:
    """What a rank has done so far, read from its shared progress page."""

    rank: int
    phase: str  # one of dsv4_tp.rpc.progress.PHASES
    bytes_loaded: int = 0
    bytes_total: int = 0
    prefill_tokens: int = 0
    decode_steps: int = 0
    active_bytes: int = 0  # memory MLX holds
    peak_bytes: int = 0
    pid: int = 0
    waits: int = 0  # how often it has begun, or ended, to wait for other ranks; odd: it may wait
    note: str = ""  # what its agent finds remarkable, such as that it is slow
    beats: int = 0  # while it is prepared, and waits to be told to join
    calls: int = 0  # how often it has left its own code for MLX's, or come back; odd: it is there


@dataclass(frozen=True, slots=True)
class Link:
    """What an agent hears of another one, at the address where the ranks meet."""

    host: str
    quiet_s: float | None = None  # since it was heard last; None: it never was, and is not watched
    silent: bool = False  # for too long, and no rank shows that the way works


class Loss(IntEnum):
    """How a rank was lost. Where several are lost at once, the greatest names the culprit."""

    STALLED = 1  # no progress within its deadline; it may only have waited for another rank
    BEREFT = 2  # ended, for it could not go on with the others
    LINK = 3  # it waits for what cannot come: the way between two hosts is gone
    STOPPED = 4  # found stopped by a signal
    EXITED = 5  # ended unasked
    HOST = 6  # its host, or the agent there, is gone
    KILLED = 7  # by a signal, its own crash included
    QUARANTINED = 8  # and what it left behind spoils its host for the next one
