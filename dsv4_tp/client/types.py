"""What a client says and hears, frozen; the messages themselves stay inside `client`."""

from dataclasses import dataclass

from dsv4_tp.core import FinishReason, RankReport


@dataclass(frozen=True, slots=True)
class Ask:
    """A text to continue. What is None is the cluster's to choose: generation_config.json."""

    prompt: str
    chat: bool = False  # the prompt is one user turn, not raw text
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None


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


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a text."""

    reason: FinishReason
    stats: Stats


@dataclass(frozen=True, slots=True)
class Piece:
    """Some more of a text; the last piece has the finish."""

    tokens: tuple[int, ...]
    text: str
    finish: Finish | None


@dataclass(frozen=True, slots=True)
class RankStatus:
    """One rank: what it does and what it holds."""

    report: RankReport
    planned_bytes: int  # weights, by the plan
    weight_bytes: int  # weights, as loaded; 0: not yet


@dataclass(frozen=True, slots=True)
class HostStatus:
    """One host and its ranks."""

    name: str
    beat_age_s: float  # since its agent last spoke
    ranks: tuple[RankStatus, ...]


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A whole cluster."""

    name: str
    phase: str  # starting, loading, ready, draining, failed
    epoch: int
    model_path: str
    dtype: str
    version: str
    failure: str  # why the phase is failed
    hosts: tuple[HostStatus, ...]
