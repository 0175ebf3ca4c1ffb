"""A coordinator at work: its service is up, people are told, and a job runs beside it."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import grpc

from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.coordinator.service import ClusterService
from dsv4_tp.coordinator.texts import Texts
from dsv4_tp.launcher.crew import Staff
from dsv4_tp.launcher.report import Report
from dsv4_tp.rpc.health import Health
from dsv4_tp.serving.door import Door
from dsv4_tp.v1.cluster_pb2_grpc import add_ClusterServiceServicer_to_server

_SERVICE = "dsv4_tp.v1.ClusterService"
_GRACE_S = 1.0  # for last answers to clients

_T = TypeVar("_T")
Job = Callable[[str], Awaitable[_T]]  # of the cluster's address
Tell = Callable[[str], None]


@asynccontextmanager
async def served(
    server: grpc.aio.Server, staff: Staff, prompts: Prompts, door: Door | None
) -> AsyncGenerator[Coordinator]:
    """A coordinator whose services answer, and whose health is told as it changes.

    Clients come by gRPC, and by HTTP if there is a `door` for it.
    """
    health = Health(server, _SERVICE)
    coordinator = Coordinator(
        staff.setup,
        on_serve=lambda ready: health.set(serving=ready),
        start_agent=staff.crew.start_again,
        reap=staff.crew.reap,
        adoption=staff.adoption,
    )
    texts = Texts(coordinator, prompts)
    service = ClusterService(coordinator, texts, endpoint=door.url if door else "")
    add_ClusterServiceServicer_to_server(service, server)
    await server.start()
    try:
        async with _by_http(coordinator, texts, door):
            yield coordinator
    finally:
        await server.stop(_GRACE_S)


@asynccontextmanager
async def _by_http(
    coordinator: Coordinator, texts: Texts, door: Door | None
) -> AsyncGenerator[None]:
    if door is None:
        yield
        return
    # Here, for commands that serve nobody: together they take as long as all the rest.
    from dsv4_tp.serving.app import App
    from dsv4_tp.serving.server import serving

    app = App(coordinator, texts)
    async with serving(app.asgi(door.http, door.keys), door.sock):
        yield


async def run_beside(
    coordinator: Coordinator, job: Job[_T] | None, address: str, report: Report
) -> _T | None:
    """Run the cluster, and `job` when it is ready; end the cluster when either has ended.

    Raises what the cluster failed of, else what the job raised. None if the cluster was ended
    before the job was done, or if there is no job.
    """
    running = asyncio.create_task(coordinator.run())
    working = asyncio.create_task(_work(coordinator, job, address, report))
    telling = asyncio.create_task(report.run())
    try:
        await asyncio.wait({running, working}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        # The job's own requests are cancelled first, so that nothing waits for them.
        await asyncio.wait({working})
        coordinator.dismiss(now=False)
        try:
            await _ended(running, coordinator)
        finally:
            telling.cancel()


async def _ended(running: "asyncio.Task[None]", coordinator: Coordinator) -> None:
    """Wait until nothing of the cluster is left; an interrupt makes that sooner, not less."""
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        coordinator.dismiss(now=True)
        await running
        raise


async def _work(
    coordinator: Coordinator, job: Job[_T] | None, address: str, report: Report
) -> _T | None:
    await coordinator.ready.wait()
    report.look()  # all there is to say comes before what the job prints
    if job is not None:
        return await job(address)
    await coordinator.gone.wait()
    return None
