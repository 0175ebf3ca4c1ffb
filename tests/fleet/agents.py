"""An agent around its real state machine: what `Supervisor`, `AgentService` and the guard do."""

from collections import deque
from collections.abc import Callable

from dsv4_tp.agent import events, pulse
from dsv4_tp.agent.host import HostState
from dsv4_tp.agent.ladder import DUMP_S
from dsv4_tp.agent.ledger import Ledger
from dsv4_tp.agent.reclaim import Kept
from dsv4_tp.agent.state import step
from dsv4_tp.agent.supervisor import FIRST_SESSION_S
from dsv4_tp.coordinator import events as words
from dsv4_tp.core import FinishEvent, Submit
from dsv4_tp.rpc.convert import command_to_proto
from dsv4_tp.v1.agent_pb2 import AdoptResponse
from dsv4_tp.v1.worker_pb2 import Prepared, Ready, RunResponse
from tests.fleet import wire
from tests.fleet.agenda import Agenda, Process
from tests.fleet.ranks import CHUNK, Rank, Ring

DEADLINES = events.Deadlines(join_s=8.0, load_s=6.0, step_s=8.0)
GUARD_S = 0.2


class Agent(Process):
    """Of one host. `on_spawn` hears of each rank before it lives; `leaked` bytes are of none.

    `haunted`: a process is left there of an agent that is gone, as its guard has written down.
    """

    def __init__(
        self,
        agenda: Agenda,
        host: str,
        rings: Callable[[int], Ring],
        on_spawn: Callable[["Agent", int], None],
        leaked: Callable[[str], int],
        haunted: Callable[[str], bool],
        send: Callable[["Agent", str], None],
    ) -> None:
        super().__init__()
        self.agenda, self.host, self._rings, self._on_spawn = agenda, host, rings, on_spawn
        self._leaked, self._haunted, self._send = leaked, haunted, send
        self.hearing = pulse.Hearing()
        self.state = HostState(lease_ends_s=agenda.now_s + FIRST_SESSION_S, fence_s=FIRST_SESSION_S)
        self.heard_s = agenda.now_s  # of the coordinator
        self.ranks: dict[int, Rank] = {}  # as the agent knows them
        self.children: list[Rank] = []  # whatever it knows
        self._generation = 0
        self._ledger = Ledger()
        self._session: wire.Session | None = None
        self._outbox: deque[words.Heard] = deque()
        self._beat_s = 0.5
        self._look()
        self._pulse()

    @property
    def living(self) -> list[Rank]:
        """Its ranks that live, whether it knows or not."""
        return [rank for rank in self.children if rank.alive]

    @property
    def haunted(self) -> bool:
        """Whether a process is left there of an agent that is gone."""
        return self._haunted(self.host)

    # What the coordinator says.

    def admit(self, session: wire.Session, hello: wire.Hello) -> None:
        if hello.generation <= self._generation:
            session.close(session.far)
            return
        if old := self._session:
            old.close(old.far)
        self._generation, self._session, self._beat_s = hello.generation, session, hello.beat_s
        self.heard_s = self.agenda.now_s
        self._feed(events.Greeted(self.agenda.now_s, hello.fence_s, hello.beat_s))
        self._flush()

    def stand(self, generation: int) -> AdoptResponse:
        """For a coordinator that comes after one that is gone."""
        assert generation > self._generation
        self._generation = generation
        if old := self._session:
            self._session = None
            old.close(old.far)
        self._outbox.clear()
        self.beat()
        return self._ledger.standing(self.state, [rank.page for rank in self.ranks.values()])

    def hear(self, session: wire.Session, message: object) -> None:
        if isinstance(message, wire.Hello):
            self.admit(session, message)
            return
        self.beat()
        match message:
            case wire.Start(epoch=epoch, ranks=ranks, peers=peers):
                self._start(epoch, ranks, peers)
            case wire.Join(epoch=epoch) if epoch == self.state.epoch and not self.state.halting:
                for rank in self.ranks.values():
                    rank.join()
            case wire.Order(epoch=epoch, command=command) if epoch == self.state.epoch:
                if isinstance(command.action, Submit):
                    name = command.action.request.id
                    self._feed(events.Tasked(self.agenda.now_s, name, CHUNK))
                elif command.action == words.core.Drain():
                    self._feed(events.Drained())
                self._ledger.passed(command_to_proto(command))
                for rank in self.ranks.values():
                    rank.command(command)
            case wire.Stop(epoch=epoch, explain=explain) if epoch == self.state.epoch:
                self._feed(events.Halted(self._stopped(), explain))
            case _:
                pass

    def beat(self) -> None:
        self.heard_s = self.agenda.now_s
        self._feed(events.Beaten(self.agenda.now_s))

    def hung_up(self, session: wire.Session, _cause: str) -> None:
        if session is self._session:
            self._session = None

    def dismiss(self, reason: str) -> None:
        self._feed(events.Dismissed(reason, ordered=True))

    def _start(self, epoch: int, ranks: tuple[int, ...], peers: tuple[str, ...]) -> None:
        if self.state.ranks or self.state.gone or epoch <= self.state.epoch:
            assert self._session
            session, self._session = self._session, None
            session.close(session.far)
            return
        self.hearing = pulse.begun(self.hearing, peers, self.agenda.now_s)
        self._ledger = Ledger()
        kept = Kept(self._leaked(self.host), "wired")
        spoilt = "pid 1 outlived SIGKILL; reboot it" if self.haunted else ""
        self._feed(events.Started(self.agenda.now_s, epoch, ranks, DEADLINES, kept, spoilt))

    # What the ranks say.

    def said(self, rank: Rank, word: str, *args: object) -> None:
        match word:
            case "prepared":
                self._ledger.said(rank.number, RunResponse(prepared=Prepared()))
                self._tell(words.Prepared(rank.number, {}))
            case "joined":
                self._tell(words.Joined(rank.number))
            case "loaded":
                self._ledger.said(rank.number, RunResponse(ready=Ready(weight_bytes=100)))
                self._tell(words.Loaded(rank.number, 100))
            case "refused":
                self._tell(words.Refused(rank.number, "this model is not for it"))
                self._feed(events.Halted(self._stopped()))
            case "mute":
                self._feed(events.Muted(rank.number))
            case "event":
                (event,) = args
                if isinstance(event, FinishEvent):
                    self._feed(events.Finished(rank.number, event.request_id))
                    self._sample()
                self._tell(words.Said(rank.number, event))

    def exited(self, rank: Rank, code: int) -> None:
        if self.ranks.get(rank.number) is rank:
            del self.ranks[rank.number]
            self._feed(events.Exited(rank.page, code, f"Error {code}"))

    def outlived(self, rank: Rank) -> None:
        """No signal has ended a rank."""
        if rank.alive:
            self._feed(events.Outlived(rank.number, pid=1))

    # What time does.

    def _look(self) -> None:
        self._sample()
        self.agenda.after(self._beat_s, self.do, self._look)

    def _sample(self) -> None:
        reports = tuple(rank.page for rank in self.ranks.values())
        links = pulse.links(self.hearing, self.agenda.now_s, met_s=self.state.met_s)
        self._tell(words.HostBeat((*reports, *self.state.gone), links))
        self._feed(events.Sampled(self.agenda.now_s, reports, self._stopped()))

    def _pulse(self) -> None:
        self.hearing = pulse.looked(self.hearing, self.agenda.now_s)
        for host in self.hearing.heard_s:
            self._send(self, host)
        self.agenda.after(pulse.PULSE_S, self.do, self._pulse)

    def pulsed(self, host: str, epoch: int) -> None:
        """A pulse has come, which only those of one epoch understand."""
        if epoch == self.state.epoch and host in self.hearing.heard_s:
            self.hearing = pulse.heard(self.hearing, host, self.agenda.now_s)

    def stop(self) -> None:
        """By a signal; its guard takes it for dead when it has been silent for too long."""
        self.stopped, self.heard_s = True, self.agenda.now_s  # the guard counts from here
        self.agenda.after(self.state.fence_s, self._guard, self.heard_s)

    def die(self) -> None:
        self.alive = False
        for rank in self.children:
            self.agenda.after(GUARD_S, rank.struck, -9)

    def _guard(self, since_s: float) -> None:
        if self.stopped and self.heard_s == since_s:
            for rank in self.children:
                rank.struck(-9)

    # What follows.

    def _feed(self, event: events.Event) -> None:
        self.state, actions = step(self.state, event)
        for action in actions:
            self._do(action)

    def _do(self, action: events.Action) -> None:
        match action:
            case events.Spawn(rank=rank):
                self._spawn(rank)
            case events.Dump():
                self.agenda.after(DUMP_S, self.do, self._dumped)
            case events.Kill(rank=rank):
                self.ranks[rank].kill()
            case events.ReportLost(rank=rank, loss=loss, cause=cause, last_stderr=stderr):
                self._tell(words.Lost(rank, loss, cause, stderr))
            case events.Measure():
                self._feed(events.MemorySeen(self.agenda.now_s, self._leaked(self.host)))
            case events.ReportStopped(quarantine=quarantine):
                self._tell(words.HostStopped(quarantine))
            case events.Leave():
                self._leave()

    def _dumped(self) -> None:
        self._feed(events.Dumped({}, self._stopped()))

    def _spawn(self, number: int) -> None:
        self._on_spawn(self, self.state.epoch)
        rank = Rank(self, number, self._rings(self.state.epoch))
        self.ranks[number] = rank
        self.children = [*self.living, rank]

    def _leave(self) -> None:
        """What was said before is sent; then it is gone, and its guard ends what it has left."""
        self.agenda.after(0.05, self._end)

    def _end(self) -> None:
        if self.alive:
            self.die()
            if self._session:
                self._session.look()

    def _stopped(self) -> frozenset[int]:
        return frozenset(number for number, rank in self.ranks.items() if rank.stopped)

    def _tell(self, word: words.Word) -> None:
        self._outbox.append(words.Heard(self.host, self.state.epoch, word))
        self._flush()

    def _flush(self) -> None:
        while self._session and self._outbox:
            self._session.send(self._session.near, self._outbox.popleft())
