"""A whole model in this process, on one device: the engine of a rank, without a cluster.

How prompts are read, requests counted and texts ended is the coordinator's, too.
"""

import atexit
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

import mlx.core as mx

from dsv4_tp import demo
from dsv4_tp.client import Answer, Ask, Piece, ask_of, whole
from dsv4_tp.config import BATCH, MOST_BATCH, MOST_DRAFTS, PREFILL_CHUNK, QUEUE, DTypeChoice
from dsv4_tp.config.precision import mlx_device, settle_dtype
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.core import CacheRows, FinishEvent, FinishReason, ScoreEvent, TokenEvent
from dsv4_tp.engine import Engine, Pace, Team
from dsv4_tp.errors import ConfigError, Dsv4Error
from dsv4_tp.library.desk import Desk
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.rpc.convert_asks import ask_from_proto, ask_to_proto
from dsv4_tp.worker.guides import Guides
from dsv4_tp.worker.limits import planned_limits


def load(
    model: str | Path,
    *,
    dtype: str = "auto",
    context: int | None = None,
    batch: int = BATCH,
    mtp: int = 0,
) -> "LocalModel":
    """Load a whole model into this process.

    Args:
        model: a checkpoint's directory, or `demo`.
        dtype: of activations: float32, bfloat16, or auto, which is float32 on CPU and else the
            checkpoint's.
        context: most tokens of prompt and answer; None: what the model was made for.
        batch: most requests at a time, from several threads; others wait.
        mtp: most tokens drafted ahead, for a model with an MTP stage.

    Raises:
        InputError: the files are not those of one DeepSeek-V4 model, or a setting is wrong.
    """
    if dtype not in list(DTypeChoice):
        raise ConfigError(f"dtype is {dtype!r}; it must be one of {', '.join(DTypeChoice)}")
    _check("context", context or 1, least=1)
    _check("batch", batch, least=1, most=MOST_BATCH)
    _check("mtp", mtp, least=0, most=MOST_DRAFTS)
    return LocalModel(
        demo.model_dir(str(model)), DTypeChoice(dtype), context=context, batch=batch, mtp=mtp
    )


class LocalModel:
    """A model that `load` has loaded. To be used in `with`, or closed by `close`.

    Any thread may use it, and several at once: their texts are made together.
    """

    def __init__(
        self,
        model_dir: Path,
        dtype: DTypeChoice,
        *,
        context: int | None,
        batch: int,
        mtp: int,
    ) -> None:
        """See `load`."""
        self.spec: ModelSpec = read_spec(model_dir)
        self.notes: tuple[str, ...] = ()  # what a user should know about the files
        self._model_dir = model_dir
        self._dtype = settle_dtype(
            dtype.dtype, device=mlx_device(), torch_dtype=self.spec.torch_dtype
        )
        self._context = context or self.spec.max_position_embeddings
        self._batch = batch
        self._mtp = mtp
        self._prompts = Prompts(model_dir, self.spec)
        self._desk = Desk(Requests(batch, QUEUE))
        loaded: Future[None] = Future()
        # One thread for all that MLX does: its streams are a thread's own.
        self._thread = threading.Thread(target=self._work, args=(loaded,), daemon=True)
        self._thread.start()
        loaded.result()
        atexit.register(self.close)  # Python would else end under a thread that computes

    def __enter__(self) -> "LocalModel":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def generate(self, ask: Ask | str) -> Answer:
        """A whole text."""
        return whole(list(self.stream(ask)))

    def stream(self, ask: Ask | str) -> Iterator[Piece]:
        """The text as it comes; closing this before its end cancels the request.

        Raises RequestError for a setting that is wrong, BusyError if too many requests wait.
        """
        asked = ask_from_proto(ask_to_proto(ask_of(ask)))  # which refuses what is of another kind
        wanted, answer = self._prompts.request(asked), self._prompts.answer(asked)
        for event in self._desk.serve(wanted, self._prompts.time_limit_s(asked)):
            match event:
                case TokenEvent():
                    if piece := answer.token(event):
                        yield piece
                    if answer.stopped:
                        self._desk.cancel(wanted.id, FinishReason.STOP)
                case FinishEvent():
                    yield answer.finish(event)
                case ScoreEvent():
                    pass

    def close(self) -> None:
        """End what is running, and let go of the model."""
        atexit.unregister(self.close)
        if self._thread.is_alive():
            self._desk.close()
            self._thread.join()

    def _work(self, loaded: "Future[None]") -> None:
        try:
            self._serve(loaded)
        finally:
            # MLX's own threads outlive this one, and the process would abort at its end.
            mx.synchronize()
            mx.clear_streams()

    def _serve(self, loaded: "Future[None]") -> None:
        try:
            engine = self._engine()
        except BaseException as error:
            loaded.set_exception(error)
            return
        loaded.set_result(None)
        over = Dsv4Error("the model was closed")
        try:
            engine.run()
        except Exception as error:
            over = error if isinstance(error, Dsv4Error) else Dsv4Error(f"it failed: {error}")
        finally:
            self._desk.end(over)

    def _engine(self) -> Engine:
        team = Team.of_one(self.spec.whole)
        loaded = load_rank(
            self._model_dir,
            None,
            dtype=self._dtype,
            mtp=self._mtp > 0,
            all_sum=team.collectives.all_sum,
            begin=team.collectives.begin,
        )
        self.notes = loaded.notes
        guides = Guides(self._model_dir, self.spec.vocab_size, team.collectives)
        return Engine(
            loaded.model,
            team,
            limits=planned_limits(
                loaded.model,
                context=self._context,
                batch=self._batch,
                dtype=self._dtype,
                rows=CacheRows.EXACT,
            ),
            prefill_chunk=PREFILL_CHUNK,
            pace=Pace(self._mtp) if loaded.model.drafts else None,
            inbox=self._desk,
            progress=_Unwatched(),
            emit=self._desk.emit,
            guide_for=guides.guide,
        )


def _check(name: str, value: int, *, least: int, most: int | None = None) -> None:
    if value < least or (most is not None and value > most):
        to = f" to {most}" if most is not None else " or more"
        raise ConfigError(f"{name} is {value}; it must be {least}{to}")


class _Unwatched:
    """Nobody judges the progress of an engine in this process."""

    def phase(self, phase: str) -> None:
        """A phase begins."""

    def prefilled(self, tokens: int) -> None:
        """So many more given tokens were fed."""

    def decoded(self) -> None:
        """One more decode step is done."""
