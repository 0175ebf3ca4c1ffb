"""What this host is, and whether it could run a plan. Looks, changes nothing."""

import platform
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

import psutil

import dsv4_tp
from dsv4_tp import demo
from dsv4_tp.agent import quarantine
from dsv4_tp.agent.memory import usable_bytes
from dsv4_tp.config.precision import mlx_device
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import weight_files
from dsv4_tp.macs.mac import OF_CABLES
from dsv4_tp.macs.tools import run_tools
from dsv4_tp.prepared import fingerprint, is_set, model_fingerprint
from dsv4_tp.v1.agent_pb2 import FileDigest, InspectRequest, InspectResponse


def inspect(request: InspectRequest) -> InspectResponse:
    """The facts of this host; `problems` names what speaks against running `request` here.

    Where processes were killed that are not gone yet, it waits a few seconds for them.
    """
    spoilt = quarantine.settled()  # first, for they hold memory and ports
    model_dir = demo.model_dir(request.model_path) if request.model_path else None
    problems = _port_problems(request.ring)
    model_digest, samples = b"", dict[str, str]()
    if model_dir is not None:
        try:
            model_digest, samples = _model_digests(model_dir)
        except CheckpointError as error:
            problems.append(str(error))
    return InspectResponse(
        version=dsv4_tp.__version__,
        mlx_version=_version("mlx"),
        python_version=platform.python_version(),
        memory_bytes=psutil.virtual_memory().total,
        available_bytes=usable_bytes(),
        free_ports=free_ports(request.free_ports),
        problems=problems,
        model_digest=model_digest,
        samples=[FileDigest(name=n, sha256=bytes.fromhex(d)) for n, d in samples.items()],
        device=mlx_device(),
        quarantine=spoilt,
        tools=run_tools(OF_CABLES) if request.cables else {},
    )


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("", 0))
        return [each.getsockname()[1] for each in sockets]


def _port_problems(ring: Iterable[str]) -> list[str]:
    """One line for each of the addresses that a rank could not bind."""
    problems: list[str] = []
    for address in ring:
        host, _, port = address.rpartition(":")
        with socket.socket() as probe:
            # A connection of the last launch that is still closing does not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                problems.append(f"cannot listen on {address}: {error.strerror}")
    return problems


def _model_digests(model_dir: Path) -> tuple[bytes, dict[str, str]]:
    """Which checkpoint is there, be it as a prepared set; and samples of its files, if it is not.

    Raises:
        CheckpointError: it cannot be read.
    """
    config = model_dir / "config.json"
    try:
        with config.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise CheckpointError(f"cannot read {config}: {error.strerror}") from error
    if is_set(model_dir):
        return bytes.fromhex(model_fingerprint(model_dir)), {}
    samples = {file.name: fingerprint([file]) for file in weight_files(model_dir)}
    return bytes.fromhex(model_fingerprint(model_dir)), samples


def _version(package: str) -> str:
    """The installed version; empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
