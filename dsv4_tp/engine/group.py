"""Joining the ranks: check what was told, meet the others, make sure all run the same.

MLX's own join crashes or hangs on a bad list of addresses, takes any TCP client for its peer
and never gives up; hence the checks before, the deadline around, the canary after. All that is the
same for a ring over TCP and for JACCL, whose ranks first meet at rank 0's address, over TCP too.
"""

import ipaddress
import json
import signal
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import mlx.core as mx

from dsv4_tp.config.environment import set_jaccl, set_ring
from dsv4_tp.core import Rdma
from dsv4_tp.engine.canary import check_agreement, check_sums
from dsv4_tp.engine.collectives import Collectives, Group
from dsv4_tp.engine.outside import UNTOLD, Turns
from dsv4_tp.errors import PreflightError, RankFailure


def join(
    addresses: Sequence[str],
    *,
    rank: int,
    deadline_s: float,
    facts: Mapping[str, str],
    nonce: bytes = b"",
    turns: Turns = UNTOLD,
    rdma: Rdma | None = None,
) -> Collectives:
    """Meets the other ranks and returns the collectives that join them.

    The process is ended by SIGALRM if that takes longer than `deadline_s`: while MLX connects
    nothing else could end it. Must be called on the main thread.

    Args:
        addresses: "ip:port" of every rank, by rank; none, or one, for a group of one.
        rank: this process.
        deadline_s: for meeting and for the canary.
        facts: what all ranks must hold alike, by name.
        nonce: what only the ranks of this epoch have been told.
        turns: told when this rank waits, and for whom.
        rdma: joins them by JACCL; None: by a ring over TCP.

    Raises:
        PreflightError: an address is malformed, MLX has no JACCL, or the ranks' facts differ.
        RankFailure: an address is taken, a rank is not reached, or is a stranger, or sums differ.
    """
    if len(addresses) <= 1:
        return Collectives(turns=turns)
    check_addresses(addresses, rank=rank)
    check_backend(rdma)
    with _ended_after(deadline_s):
        turns.turned()
        handle = _join_jaccl(rdma, addresses, rank) if rdma else _join_ring(addresses, rank)
        turns.turned()
        collectives = Collectives(Group(rank, len(addresses), handle), turns=turns)
        check_agreement(collectives, facts, nonce=nonce)
        check_sums(collectives, nonce=nonce)
    return collectives


def check_addresses(addresses: Sequence[str], *, rank: int) -> None:
    """Raises PreflightError unless these are different "ipv4:port" and `rank` is one of them."""
    if not 0 <= rank < len(addresses):
        raise PreflightError(f"rank {rank} is not among {len(addresses)} ranks")
    for address in addresses:
        _check_address(address)
    repeated = sorted({address for address in addresses if addresses.count(address) > 1})
    if repeated:
        raise PreflightError(f"ring address {repeated[0]} is listed twice; give each rank its own")


def check_backend(rdma: Rdma | None) -> None:
    """Raises PreflightError unless MLX has here what is to join the ranks."""
    if rdma is not None and not mx.distributed.is_available("jaccl"):
        found = f"MLX {metadata.version('mlx')} here has no JACCL"
        raise PreflightError(f"{found}: it needs a Mac with RDMA; use `backend: ring`")


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        ipaddress.IPv4Address(host)
    except ValueError as error:
        raise PreflightError(f"ring address {address!r}: needs ip:port with an IPv4") from error
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise PreflightError(f"ring address {address!r}: {port!r} is not a port (1 to 65535)")


def _join_ring(addresses: Sequence[str], rank: int) -> mx.distributed.Group:
    with _private_file([[address] for address in addresses]) as hostfile:
        set_ring(rank=rank, hostfile=hostfile)
        try:
            return mx.distributed.init(strict=True, backend="ring")
        except RuntimeError as error:
            raise _explained(error, addresses[rank], rank) from error


def _join_jaccl(rdma: Rdma, addresses: Sequence[str], rank: int) -> mx.distributed.Group:
    with _private_file(rdma.matrix) as devices:
        set_jaccl(rank=rank, devices=devices, coordinator=addresses[0], ring=rdma.ring)
        try:
            return mx.distributed.init(strict=True, backend="jaccl")
        except (RuntimeError, ValueError) as error:
            advice = "dsv4-tp doctor says what RDMA lacks"
            raise RankFailure(f"rank {rank} is not joined by JACCL ({error}); {advice}") from error


@contextmanager
def _private_file(words: object) -> Generator[Path]:
    """A file of this JSON that nobody else can read, within the block."""
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-join-") as private:
        file = Path(private) / "ranks.json"
        file.write_text(json.dumps(words))
        yield file


def _explained(error: RuntimeError, address: str, rank: int) -> RankFailure:
    if "bind" in str(error):  # it was free a moment ago, so another epoch may have more luck
        return RankFailure(
            f"rank {rank} cannot use {address} ({error}); is the port in use, the ip this host's?"
        )
    return RankFailure(f"rank {rank} at {address} did not meet the other ranks ({error})")


@contextmanager
def _ended_after(deadline_s: float) -> Generator[None]:
    # MLX holds the GIL while it connects, so a Python handler would never run.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, deadline_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
