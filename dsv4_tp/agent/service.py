"""AgentService: what the coordinator calls, handed to the supervisor."""

import asyncio
from collections.abc import AsyncIterator

from dsv4_tp.agent import machine
from dsv4_tp.agent.receive import receive
from dsv4_tp.agent.records import Records
from dsv4_tp.agent.supervisor import Supervisor
from dsv4_tp.agent.verify import verify
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import PreflightError
from dsv4_tp.rpc.auth import Context
from dsv4_tp.v1 import agent_pb2 as pb
from dsv4_tp.v1.agent_pb2_grpc import AgentServiceServicer

Requests = AsyncIterator[pb.SessionRequest]


class AgentService(AgentServiceServicer):
    """Serves one coordinator at a time."""

    def __init__(self, supervisor: Supervisor, records: Records) -> None:
        self._supervisor = supervisor
        self._records = records
        self._generation = 0
        self._occupied = False

    async def Inspect(  # noqa: N802
        self, request: pb.InspectRequest, context: Context
    ) -> pb.InspectResponse:
        """The facts of this host; whoever asks lives."""
        self._supervisor.beat()
        return await asyncio.to_thread(machine.inspect, request)

    async def Verify(  # noqa: N802
        self, request: pb.VerifyRequest, context: Context
    ) -> AsyncIterator[pb.VerifyResponse]:
        """How far the reading is, and last the digests."""
        async for response in verify(request, state_dir() / "digests"):
            yield response

    async def Receive(  # noqa: N802
        self, request_iterator: AsyncIterator[pb.ReceiveRequest], context: Context
    ) -> AsyncIterator[pb.ReceiveResponse]:
        """Take in files; each is answered when it is on the disk."""
        async for response in receive(request_iterator):
            yield response

    async def Session(  # noqa: N802
        self, request_iterator: Requests, context: Context
    ) -> AsyncIterator[pb.SessionResponse]:
        """The lease: obey and report until either side ends."""
        self._admit(await anext(request_iterator, pb.SessionRequest()))
        listening = asyncio.create_task(self._listen(request_iterator))
        try:
            while response := await self._next(listening):
                yield response
        finally:
            listening.cancel()
            self._occupied = False

    async def Tail(  # noqa: N802
        self, request: pb.TailRequest, context: Context
    ) -> AsyncIterator[pb.TailResponse]:
        """What was written, and, where asked, what is."""
        async for piece in self._records.tail(request.choice, self._supervisor.left):
            yield pb.TailResponse(piece=piece)

    async def Shutdown(  # noqa: N802
        self, request: pb.ShutdownRequest, context: Context
    ) -> pb.ShutdownResponse:
        """Stop all ranks; the agent ends after the answer."""
        self._supervisor.dismiss("shut down by the coordinator")
        await self._supervisor.left.wait()
        return pb.ShutdownResponse()

    def _admit(self, request: pb.SessionRequest) -> None:
        """Let a coordinator in, unless another one is here or a later one has been."""
        hello = request.hello
        if self._occupied:
            raise PreflightError("another coordinator holds this agent")
        if hello.generation <= self._generation:
            raise PreflightError(f"generation {hello.generation} is not newer than the last one")
        self._records.settle(hello.launch, hello.host)
        self._generation = hello.generation
        self._occupied = True
        self._supervisor.greet(hello)

    async def _listen(self, requests: Requests) -> None:
        """Obey until the coordinator ends the stream; whatever it says is a sign of life."""
        async for request in requests:
            self._supervisor.beat()
            match request.WhichOneof("kind"):
                case "start_epoch":
                    self._supervisor.start(request.start_epoch)
                case "join_epoch":
                    self._supervisor.join(request.join_epoch)
                case "command":
                    self._supervisor.command(request.command)
                case "stop_epoch":
                    self._supervisor.halt(request.stop_epoch.epoch)
                case _:
                    pass

    async def _next(self, listening: asyncio.Task[None]) -> pb.SessionResponse | None:
        """What to tell next; None at the end. Raises what ended the listening."""
        getting = asyncio.create_task(self._supervisor.outbox.get())
        try:
            await asyncio.wait({getting, listening}, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
            listening.result()
            return None
        finally:
            getting.cancel()
