"""AgentService: what the coordinator calls, handed to the supervisor."""

import asyncio
from collections.abc import AsyncIterator

from dsv4_tp.agent import machine
from dsv4_tp.agent.receive import receive
from dsv4_tp.agent.records import Records
from dsv4_tp.agent.supervisor import Supervisor
from dsv4_tp.agent.verify import verify
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import OutrankedError
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
        self._listening: asyncio.Task[None] | None = None  # to who holds the session

    async def Inspect(  # noqa: N802
        self, request: pb.InspectRequest, context: Context
    ) -> pb.InspectResponse:
        """The facts of this host; whoever asks lives."""
        self._supervisor.beat()
        found = await asyncio.to_thread(machine.inspect, request)
        if request.pulse_ip:
            found.pulse_port = await self._supervisor.pulse.open(request.pulse_ip)
        return found

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
        listening = self._listening = asyncio.create_task(self._listen(request_iterator))
        try:
            while response := await self._next(listening):
                yield response
        finally:
            listening.cancel()

    async def Adopt(  # noqa: N802
        self, request: pb.AdoptRequest, context: Context
    ) -> pb.AdoptResponse:
        """What runs here; from now on nobody of an earlier generation is obeyed."""
        self._outrank(request.generation)
        return self._supervisor.stand()

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
        self._supervisor.dismiss("shut down by the coordinator", ordered=True)
        await self._supervisor.left.wait()
        return pb.ShutdownResponse()

    def _admit(self, request: pb.SessionRequest) -> None:
        """Let a coordinator in, unless a later one has been here."""
        hello = request.hello
        self._outrank(hello.generation)
        self._records.settle(hello.launch, hello.host)
        self._supervisor.greet(hello)

    def _outrank(self, generation: int) -> None:
        """End the session of an earlier generation; OutrankedError if there is no earlier one."""
        if generation <= self._generation:
            raise OutrankedError(f"generation {generation} is not newer than the last one")
        self._generation = generation
        if self._listening:
            self._listening.cancel()
            self._listening = None

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
                    stop = request.stop_epoch
                    self._supervisor.halt(stop.epoch, explain=stop.explain)
                case _:
                    pass

    async def _next(self, listening: asyncio.Task[None]) -> pb.SessionResponse | None:
        """What to tell next; None at the end.

        Raises what ended the listening, OutrankedError if that was another coordinator.
        """
        getting = asyncio.create_task(self._supervisor.outbox.get())
        try:
            await asyncio.wait({getting, listening}, return_when=asyncio.FIRST_COMPLETED)
            if listening is not self._listening:
                raise OutrankedError("a later coordinator has taken over")
            if getting.done():
                return getting.result()
            listening.result()
            return None
        finally:
            getting.cancel()
