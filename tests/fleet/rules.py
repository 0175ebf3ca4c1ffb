"""What is promised, whatever happens; looked at after every step."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dsv4_tp import core
from dsv4_tp.agent.ladder import longest_s
from dsv4_tp.coordinator import epochs, events
from dsv4_tp.coordinator.cluster import Phase
from dsv4_tp.coordinator.members import Fault
from dsv4_tp.core import FinishReason, Loss
from tests.fleet.agents import Agent
from tests.fleet.control import BEAT_S, FENCE_S
from tests.fleet.ranks import text_of
from tests.fleet.schedule import LASTING, Blow

if TYPE_CHECKING:
    from tests.fleet.world import World

_ECHO_S = 10.0  # so long after its end a blow may still be found
_HARMLESS = ("reset", "stale order")  # to ranks: no other one stalls or errs for that
_GRACE_S = BEAT_S + longest_s() + 0.5


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass
class Client:
    """What one client has been told."""

    asked: core.Request | core.ScoreRequest
    asked_s: float
    tokens: list[int] = field(default_factory=list)
    scored: int = 0
    ended: str = ""
    gone: bool = False  # it asked for the end itself


@dataclass(frozen=True)
class Cause:
    """A blow, and whom a verdict may name for it."""

    blow: Blow
    host: str  # empty: any
    rank: int | None  # None: all of the host
    epoch: int | None  # that it hit; None: whichever ran
    until_s: float
    plain: bool  # its mark cannot be missed


class Rules:
    def __init__(self, world: "World") -> None:
        self.world = world
        self.clients: dict[str, Client] = {}
        self.causes: list[Cause] = []
        self.verdicts: list[str] = []
        self.resumed = 0  # requests that went on in another epoch, to their end
        self.looks = 0  # at whether a promise was kept
        self._faults = self._failures = 0
        self._began_s = 0.0  # this epoch

    def hold(self, kept: bool, promise: str) -> None:
        self.looks += 1
        if not kept:
            raise Broken(f"{promise} at {self.world.agenda.now_s:.2f} s")

    def nothing(self) -> None:
        """Happens, and is of no consequence."""

    # Whom to blame.

    def blame(
        self,
        blow: Blow,
        host: str,
        *,
        rank: int | None = None,
        epoch: int | None = None,
        plain: bool = False,
    ) -> None:
        for_s = 0.0 if rank is not None else min(blow.for_s, LASTING)
        until_s = self.world.agenda.now_s + for_s + _ECHO_S
        self.causes.append(Cause(blow, host, rank, epoch, until_s, plain or _is_plain(blow)))

    def _active(self, fault: Fault) -> list[Cause]:
        if fault.loss is Loss.QUARANTINED:
            return self.causes  # what spoils a host outlasts epochs
        epoch = self.world.control.state.epoch
        return [
            cause
            for cause in self.causes
            if (cause.epoch == epoch if cause.epoch is not None else cause.until_s >= self._began_s)
        ]

    def _names(self, fault: Fault, cause: Cause) -> bool:
        """Whether this is the one that did it."""
        if fault.loss is Loss.LINK or cause.blow.kind == "fabric":
            return fault.loss is Loss.LINK and cause.blow.kind == "fabric"
        host, ranks = _who(fault)
        if fault.loss is Loss.QUARANTINED:
            return host == cause.host and cause.blow.kind in ("wedge", "leak")
        if cause.host and cause.host != host:
            return False
        return cause.rank is None or not ranks or cause.rank in ranks

    def _is_true(self, fault: Fault) -> bool:
        """Whether this could be: a rank that hangs or errs may only have missed another one."""
        weak = fault.loss in (Loss.STALLED, Loss.EXITED)
        active = self._active(fault)
        return any(
            self._names(fault, cause) or (weak and cause.blow.kind not in _HARMLESS)
            for cause in active
        )

    # After every step of the coordinator.

    def decided(self, actions: tuple[events.Action, ...]) -> None:
        state = self.world.control.state
        self.hold(self.world.control.serving == (state.phase is Phase.READY), "readiness lies")
        for action in actions:
            if isinstance(action, events.StartEpoch):
                self._began_s, self._faults = self.world.agenda.now_s, 0
        for fault in state.faults[self._faults :]:
            self.hold(self._is_true(fault), f"false alarm: {fault.message}")
        self._faults = len(state.faults)
        if len(state.failures) > self._failures or (state.failures and state.settled):
            self._judge(epochs.verdict(state))
        self._failures = len(state.failures)

    def _judge(self, fault: Fault | None) -> None:
        if fault is None:
            return
        self.verdicts.append(f"{self.world.agenda.now_s:.1f} {fault.message}")
        active = self._active(fault)
        if len(active) == 1 and active[0].plain:
            self.hold(self._names(fault, active[0]), f"the wrong one is named: {fault.message}")

    # Before every start of a rank.

    def spawning(self, agent: Agent, epoch: int) -> None:
        for name, agents in self.world.every_agent.items():
            for other in agents:
                for rank in other.living:
                    old = rank.ring is not self.world.rings.get(epoch)
                    # What a killed agent left is known to the next one there, and to no other.
                    secret = name != agent.host and not other.alive
                    self.hold(not old or secret, f"an older rank {rank.number} lives on {name}")

    def fenced(self, agent: Agent) -> None:
        now_s = self.world.agenda.now_s
        late = now_s > agent.heard_s + FENCE_S + _GRACE_S
        left = late and any(rank.wedged_until_s < now_s for rank in agent.living)
        self.hold(not left, f"ranks on {agent.host} outlive their fence")

    def deserted(self) -> None:
        """The coordinator is gone, and with it what it knew."""
        self._faults = self._failures = 0
        for client in self.clients.values():
            client.ended = client.ended or "deserted"

    # What clients are told.

    def asks(self, asked: core.Request | core.ScoreRequest) -> None:
        self.clients[asked.id] = Client(asked, self.world.agenda.now_s)

    def told(self, action: events.Deliver | events.Fail | events.Settle) -> None:
        match action:
            case events.Deliver(event=event):
                self._delivered(self.clients[event.request_id], event)
            case events.Fail(request_id=name):
                self._end(self.clients[name], "failed")
            case events.Settle():
                for client in self.clients.values():
                    client.ended = client.ended or "settled"

    def _delivered(self, client: Client, event: core.Told) -> None:
        self.hold(not client.ended, f"{event.request_id} goes on after its end")
        match event:
            case core.TokenEvent(index=index, token=token):
                self.hold(index == len(client.tokens), f"token {index} told twice or skipped")
                self.hold(token == text_of(client.asked)[index], f"token {index} is another one")
                client.tokens.append(token)
            case core.ScoreEvent(start=start, count=count):
                self.hold(start == client.scored, "a piece of a score told twice or skipped")
                client.scored += count
            case core.FinishEvent():
                self._finished(client, event)

    def _finished(self, client: Client, event: core.FinishEvent) -> None:
        self._end(client, event.reason.value)
        self.resumed += event.restarts > 0
        if isinstance(client.asked, core.Request):
            text = text_of(client.asked)
            self.hold(event.generated_tokens == len(client.tokens), "tokens are miscounted")
            whole = event.reason in (FinishReason.STOP, FinishReason.LENGTH)
            self.hold(not whole or client.tokens == text, "a text ends too early")

    def _end(self, client: Client, how: str) -> None:
        self.hold(not client.ended, f"{client.asked.id} ends twice")
        client.ended = how

    # At the end.

    def served_since(self, at_s: float) -> bool:
        """Whether a request that came after that was served to its end."""
        return any(
            one.asked_s > at_s and one.ended in ("stop", "length")
            for one in reversed(self.clients.values())
        )

    def idle(self) -> bool:
        """Whether the cluster is ready, and every request has ended."""
        ready = self.world.control.state.phase is Phase.READY
        return ready and all(one.ended for one in self.clients.values())

    def at_the_end(self) -> None:
        state = self.world.control.state
        begun = state.epoch or self.causes  # a host may be gone before the first epoch
        self.hold(not state.settled or bool(begun), "ended before it began")
        if self.world.ended_s is None:
            return
        for agents in self.world.every_agent.values():
            for agent in agents:
                self.hold(not agent.answers, f"the agent on {agent.host} is left")
                for rank in agent.living:
                    wedged = rank.wedged_until_s > self.world.agenda.now_s
                    self.hold(wedged, f"rank {rank.number} is left")


def _is_plain(blow: Blow) -> bool:
    """Whether its mark cannot be missed."""
    stopped = blow.kind == "stop" and blow.for_s == LASTING
    return stopped or blow.kind in ("exit", "kill agent", "host gone")


def _who(fault: Fault) -> tuple[str, list[int]]:
    """Its host and ranks: of "ranks 0, 1 on h3", or "h3"."""
    *words, host = fault.who.split()
    return host, [int(word.strip(",")) for word in words if word.strip(",").isdigit()]
