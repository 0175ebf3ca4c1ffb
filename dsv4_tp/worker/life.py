"""The life of a rank: be told what to be, say that it could, meet the others, load, serve, leave.

All of MLX happens here, on the main thread. No handler for SIGTERM is installed: stuck in a
collective, it would never run, and its default action ends the process at once.
"""

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import mlx.core as mx

from dsv4_tp import __version__, demo
from dsv4_tp.config.environment import state_dir
from dsv4_tp.core import CacheRows, DType, Kernels, Part
from dsv4_tp.engine import (
    HALVES_FROM,
    Collectives,
    Engine,
    Pace,
    Team,
    TokenShares,
    attention_sum,
    check_addresses,
    check_backend,
    join,
)
from dsv4_tp.errors import ConfigError, InputError, RankFailure
from dsv4_tp.model import Model, Routines, routines_by
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import Loaded, load_rank
from dsv4_tp.prefixes import Folder, Shelf, open_folder
from dsv4_tp.prepared import model_fingerprint
from dsv4_tp.rpc.convert import part_from_proto
from dsv4_tp.rpc.convert_rdma import rdma_from_proto
from dsv4_tp.rpc.progress import ProgressPage
from dsv4_tp.v1.worker_pb2 import Joined, Prepared, Ready, Refused, RunResponse, StartRank
from dsv4_tp.worker.guides import Guides
from dsv4_tp.worker.limits import planned_limits
from dsv4_tp.worker.service import AgentLink

_START_S = 30.0
_MOURNING_S = 0.7  # a rank that failed may take longer to end than the others to notice
_LONGEST_FACT = 60
_PASSING = (
    "epoch",
    "prefill chunk",
    "context",
    "batch",
    "prefix cache",
)  # facts that no row depends on


@dataclass(frozen=True, slots=True)
class Counters:
    """The progress page, with MLX's memory noted at every step."""

    page: ProgressPage

    def phase(self, phase: str) -> None:
        """Enter a phase."""
        self.page.phase(phase)

    def loaded(self, done_bytes: int, total_bytes: int) -> None:
        """So much of the rank's part is in memory."""
        self.page.loaded(done_bytes, total_bytes)
        self._memory()

    def prefilled(self, tokens: int) -> None:
        """So many more given tokens were fed."""
        self.page.prefilled(tokens)
        self._memory()

    def decoded(self) -> None:
        """One more decode step is done."""
        self.page.decoded()
        self._memory()

    def turned(self) -> None:
        """It may wait for other ranks from now on, or has done with that."""
        self.page.turned()

    def called(self) -> None:
        """It leaves its own code for MLX's, or is back."""
        self.page.called()

    def _memory(self) -> None:
        self.page.memory(mx.get_active_memory(), mx.get_peak_memory())


def live(*, socket: Path, progress: Path) -> None:
    """Be one rank until its log says to drain; see `main.run`."""
    counters = Counters(ProgressPage(progress, pid=os.getpid()))
    link = AgentLink(socket)
    try:
        _serve(link.start(deadline_s=_START_S), link, counters)
    except InputError as error:
        link.say(RunResponse(refused=Refused(message=str(error))))
        raise
    except RankFailure:
        time.sleep(_MOURNING_S)
        raise
    finally:
        link.close()


def _serve(start: StartRank, link: AgentLink, counters: Counters) -> None:
    parts = tuple(map(part_from_proto, start.parts))
    routines = routines_by(_kernels(start), read_spec(demo.model_dir(start.model_path)))
    collectives = _meet(start, parts, link, counters)
    link.say(RunResponse(joined=Joined()))
    counters.phase("loading")
    loaded, shelf, ready = _load(start, parts, routines, collectives, counters)
    guides = Guides(demo.model_dir(start.model_path), loaded.spec.vocab_size, collectives)
    engine = Engine(
        loaded.model,
        Team(collectives, tuple(part.vocab for part in parts)),
        limits=planned_limits(
            loaded.model,
            context=start.context or loaded.spec.max_position_embeddings,
            batch=start.batch or 1,
            dtype=DType(start.dtype),
            rows=_cache_rows(start),
        ),
        prefill_chunk=start.prefill_chunk,
        shelf=shelf,
        shelf_bytes=start.prefix_bytes,
        pace=Pace(start.mtp) if loaded.model.drafts else None,
        inbox=link,
        progress=counters,
        emit=link.emit,
        guide_for=guides.guide,
    )
    # Only now: until here a rank may wait for another one, and so would requests.
    link.say(RunResponse(ready=ready))
    engine.run()


def _meet(
    start: StartRank, parts: tuple[Part, ...], link: AgentLink, counters: Counters
) -> Collectives:
    """Make sure that this rank could run, and join the others once each of them has said so."""
    ring, facts = tuple(start.ring), _facts(start, parts)
    rdma = rdma_from_proto(start.rdma) if start.HasField("rdma") else None
    if ring:
        check_addresses(ring, rank=start.rank)
        check_backend(rdma)
    counters.phase("prepared")
    link.say(RunResponse(prepared=Prepared(facts=facts)))
    counters.turned()
    nonce = link.nonce(counters.page.beat)
    counters.turned()
    counters.phase("joining")
    return join(
        ring,
        rank=start.rank,
        deadline_s=start.join_timeout_s,
        facts=facts,
        nonce=nonce,
        turns=counters,
        rdma=rdma,
    )


def _facts(start: StartRank, parts: tuple[Part, ...]) -> Mapping[str, str]:
    """What all ranks must hold alike, or their collectives would not fit together."""
    facts = {
        "version of dsv4-tp": __version__,
        "version of MLX": metadata.version("mlx"),
        "epoch": str(start.epoch),
        "dtype": start.dtype,
        "prefill chunk": str(start.prefill_chunk),
        "context": str(start.context),
        "cache rows": _cache_rows(start),
        "kernels": _kernels(start),
        "batch": str(start.batch),
        "drafts": str(start.mtp),
        "prefix cache": f"{start.prefix_bytes} bytes, on disk: {start.prefixes_on_disk}",
        "model": repr(read_spec(demo.model_dir(start.model_path))),
        "checkpoint": model_fingerprint(demo.model_dir(start.model_path)),
        "plan": repr(parts),
    }
    return {name: _brief(value) for name, value in facts.items()}


def _brief(value: str) -> str:
    """The value, or the beginning of a long one with a digest of the whole."""
    if len(value) <= _LONGEST_FACT:
        return value
    return f"{value[:_LONGEST_FACT]}... (sha256 {hashlib.sha256(value.encode()).hexdigest()[:16]})"


def _cache_rows(start: StartRank) -> CacheRows:
    return CacheRows(start.cache_rows or CacheRows.EXACT)


def _kernels(start: StartRank) -> Kernels:
    return Kernels(start.kernels or Kernels.PLAIN)


def _load(
    start: StartRank,
    parts: tuple[Part, ...],
    routines: Routines,
    collectives: Collectives,
    counters: Counters,
) -> tuple[Loaded, Shelf, Ready]:
    """The rank's model, the snapshots that the last launch left, and what to say of both."""
    began_s = time.monotonic()
    loaded = load_rank(
        demo.model_dir(start.model_path),
        parts[start.rank],
        dtype=DType(start.dtype),
        mtp=start.mtp > 0,
        cache_rows=_cache_rows(start),
        routines=routines,
        all_sum=collectives.all_sum,
        attn_sum=attention_sum(collectives, parts),
        begin=collectives.begin,
        halves_from=HALVES_FROM if collectives.size > 1 else None,
        division=TokenShares(collectives, parts),
        on_bytes=counters.loaded,
    )
    lasting = start.prefix_bytes and start.prefixes_on_disk
    folder = _folder(start, parts, loaded.model) if lasting else None
    shelf = Shelf(folder, start.prefix_bytes)
    ready = Ready(
        weight_bytes=loaded.weight_bytes,
        load_s=time.monotonic() - began_s,
        bytes_read=loaded.bytes_read,
        notes=(*loaded.notes, *(folder.notes if folder else ())),
    )
    return loaded, shelf, ready


def _folder(start: StartRank, parts: tuple[Part, ...], model: Model) -> Folder:
    """Where snapshots lie that this rank of this model and plan may use."""
    facts = {**_facts(start, parts), **dict.fromkeys(_PASSING, "")}
    facts["drafts"] = "none" if not model.drafts else "some"  # the stage has rows of its own
    try:
        return open_folder(state_dir() / "prefixes", rank=start.rank, facts=str(facts))
    except OSError as error:
        raise ConfigError(f"{error}; snapshots of prompts cannot be kept there") from error
