"""Our errors to gRPC status codes and back: decided here, once.

The name of the error travels in the trailing metadata, so that it comes back as it was raised;
the code alone is for clients that do not know us.
"""

from collections.abc import Generator
from contextlib import contextmanager

import grpc

from dsv4_tp import errors
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.rpc.auth import Context

_NAME_KEY = "dsv4-tp-error"
_RETRY_KEY, _RETRY_S = "retry-after", "5"  # seconds, as HTTP says it
_CODES: tuple[tuple[type[Dsv4Error], grpc.StatusCode], ...] = (
    (errors.ContextError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.CheckpointError, grpc.StatusCode.DATA_LOSS),
    (errors.ModelError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.PlanError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.PreflightError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.BusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.QuarantineError, grpc.StatusCode.UNAVAILABLE),
    (errors.HarmfulRequestError, grpc.StatusCode.INTERNAL),
    (errors.RankFailure, grpc.StatusCode.UNAVAILABLE),
    (errors.NotReadyError, grpc.StatusCode.UNAVAILABLE),
    (errors.DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.InputError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NumericsError, grpc.StatusCode.INTERNAL),
    (errors.OutrankedError, grpc.StatusCode.ABORTED),
    (Dsv4Error, grpc.StatusCode.INTERNAL),
)


def status_of(error: Dsv4Error) -> grpc.StatusCode:
    """The status code a call that raised `error` ends with."""
    return next(code for kind, code in _CODES if isinstance(error, kind))


async def abort(context: Context, error: Dsv4Error) -> None:
    """End the call with the status of `error`; the client's `calling` raises it again."""
    later = ((_RETRY_KEY, _RETRY_S),) if isinstance(error, errors.NotReadyError) else ()
    trailer = ((_NAME_KEY, type(error).__name__), *later)
    await context.abort(status_of(error), str(error), trailer)


@contextmanager
def calling(peer: str, *, gone: str = "") -> Generator[None]:
    """Around a call to `peer`: a failed call raises the error the server raised.

    Raises Dsv4Error, or DeadlineError if no answer came in time, naming `peer` where the
    failure is not the server's own word. `gone`: what to say if nobody is there, or any more.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_of(error, peer, gone=gone) from error


def error_of(error: grpc.aio.AioRpcError, peer: str, *, gone: str = "") -> Dsv4Error:
    """The error of ours that a failed call to `peer` stands for; see `calling`."""
    details = error.details() or error.code().name
    name = dict(error.trailing_metadata() or ()).get(_NAME_KEY)
    for kind, _ in _CODES:
        if kind.__name__ == name:
            return kind(details)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineError(f"{peer} did not answer in time")
    if gone and error.code() is grpc.StatusCode.UNAVAILABLE:
        return Dsv4Error(gone)  # gRPC's own words are of sockets
    return Dsv4Error(f"{peer}: {details}")
