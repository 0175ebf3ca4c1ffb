"""The coordinator around its real state machine: what `Coordinator`, `Fleet` and `Link` do."""

import random
from collections.abc import Callable, Mapping
from functools import partial

from dsv4_tp.config import Restart, Timeouts
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.adoption import Adoption, generations
from dsv4_tp.coordinator.cluster import ClusterState, first_state
from dsv4_tp.coordinator.narrate import notes
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.state import step
from tests.fleet import wire
from tests.fleet.agenda import Agenda, Process
from tests.fleet.agents import DEADLINES, Agent

PREPARE_S = Timeouts(join_s=DEADLINES.join_s).prepare_s
BEAT_S, FENCE_S, TICK_S, DRAIN_S = 0.5, 6.0, 0.25, 10.0
GREET_S, INSPECT_S, PROBE_S, SSH_S = 5.0, 10.0, 2.0, 6.0
PATIENCE_S = 7.0  # of an agent that is asked, with processes that were killed
POLICY = Restart(backoff_s=(0.5, 4.0), most=5, window_s=40.0, replay_s=15.0)


class Link:
    """The session with one agent."""

    def __init__(self, control: "Control", host: str, agent: Agent) -> None:
        self.control, self.host, self.agent = control, host, agent
        self.session: wire.Session | None = None
        self._orders: list[object] = []
        self._closed = self._heard = False

    def order(self, message: object) -> None:
        if self.session is None:
            self._orders.append(message)
        else:
            self.session.send(self.session.far, message)

    def run(self, generation: int) -> None:
        """Greet; an agent that says nothing for a while is lost."""
        control = self.control
        control.agenda.after(GREET_S, control.do, self._ungreeted)
        if not control.wires[self.host].up:
            return
        if not self.agent.alive:
            control.agenda.after(0.05, control.do, self.lose, "its agent is gone (refused)")
            return
        near = wire.End(control, self._hear, self.lose)
        far = wire.End(self.agent, lambda word: self.agent.hear(session, word), self._far_lost)
        session = self.session = wire.Session(control.agenda, control.wires[self.host], near, far)
        for message in (wire.Hello(generation, FENCE_S, BEAT_S), *self._orders):
            self.order(message)
        self._beat()

    def lose(self, cause: str) -> None:
        if not self._closed:
            self.close()
            self.control.hear(events.HostLost(self.host, cause))

    def close(self) -> None:
        self._closed = True
        if self.session:
            self.session.close(self.session.near)

    def _far_lost(self, cause: str) -> None:
        assert self.session
        self.agent.hung_up(self.session, cause)

    def _ungreeted(self) -> None:
        if not self._heard:
            self.lose(f"its agent has said nothing for {GREET_S:g} s")

    def _hear(self, message: events.Heard) -> None:
        self._heard = True
        self.control.hear(message)

    def _beat(self) -> None:
        if not self._closed:
            self.order(wire.Beat())
            self.control.agenda.after(BEAT_S, self.control.do, self._beat)


class Control(Process):
    """`told` hears what is for clients, `decided` of every step; `agents` are those that run."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        wires: Mapping[str, wire.Wire],
        ranks: Mapping[int, str],
        *,
        agents: dict[str, Agent],
        new_agent: Callable[[str], Agent],
        told: Callable[[events.Deliver | events.Fail | events.Settle], None],
        decided: Callable[[events.Event, tuple[events.Action, ...]], None],
        turn: int = 0,
    ) -> None:
        super().__init__()
        self.agenda, self.rng, self.wires = agenda, rng, wires
        self.agents, self._new_agent, self._told, self._decided = agents, new_agent, told, decided
        self.serving, self.turn = False, turn
        self._own = {host: tuple(n for n in ranks if ranks[n] == host) for host in wires}
        self._links = {host: Link(self, host, agents[host]) for host in wires}
        self._generations = generations(turn)
        self._ordered, self._starting = 0, 0
        self.state: ClusterState = first_state(
            ranks,
            Requests(batch=3, queue=3),
            POLICY,
            beat_s=BEAT_S,
            prepare_s=PREPARE_S,
            fence_s=FENCE_S,
            drain_s=DRAIN_S,
            now_s=agenda.now_s,
        )
        for link in self._links.values():
            link.run(next(self._generations))
        agenda.after(TICK_S, self.do, self._tick)

    def adopt(self, adoption: Adoption) -> None:
        self.hear(events.Adopted(adoption))

    def hear(self, event: events.Event) -> None:
        before = self.state
        self.state, actions = step(before, event, self.agenda.now_s)
        list(notes(before, event, self.state, actions))  # whatever happens, it can be told
        for action in actions:
            self._do(action)
        self._decided(event, actions)

    def die(self) -> None:
        self.alive = False
        for each in self.wires.values():
            each.changed()

    def _tick(self) -> None:
        if not self.state.settled:
            self.hear(events.Ticked())
            self.agenda.after(TICK_S, self.do, self._tick)

    def _do(self, action: events.Action) -> None:
        match action:
            case events.StartEpoch(epoch=epoch):
                self._start(epoch)
            case events.JoinEpoch(epoch=epoch):
                self._order(wire.Join(epoch))
            case events.StopEpoch(epoch=epoch, explain=explain):
                self._stop(epoch, explain=explain)
            case events.Reach():
                self._reach(action)
            case events.Broadcast(epoch=epoch, command=command):
                self._order(wire.Order(epoch, command))
            case events.GoOn():
                self._go_on(action)
            case events.Serve(ready=ready):
                self.serving = ready
            case events.Deliver() | events.Fail():
                self._told(action)
            case events.Settle():
                self._told(action)
                self._shut_down()

    def _order(self, message: object) -> None:
        for link in self._links.values():
            link.order(message)

    # An epoch starts when all hosts have said where their ranks can meet.

    def _start(self, epoch: int) -> None:
        self._starting = epoch
        answers: set[str] = set()
        for host, each in self.wires.items():
            ask = partial(self._ask, epoch, host, answers)
            self.agenda.after(2 * each.delay_s + self.rng.uniform(0.05, 0.3), self.do, ask)

    def _ask(self, epoch: int, host: str, answers: set[str], waited_s: float = 0.0) -> None:
        agent = self._links[host].agent
        if epoch != self._starting:
            return
        if not (agent.answers and self.wires[host].up):
            unfit = events.Unfit(host, "its agent is gone")
            self.agenda.after(
                0.0 if self.wires[host].up and not agent.alive else INSPECT_S,
                self.do,
                lambda: self.hear(unfit) if epoch == self._starting else None,
            )
            return
        agent.beat()
        if agent.haunted and waited_s < PATIENCE_S:
            again = partial(self._ask, epoch, host, answers, waited_s + 0.5)
            self.agenda.after(0.5, self.do, again)
            return
        answers.add(host)
        if len(answers) == len(self.wires):
            self._starting, self._ordered = 0, epoch
            for name, link in self._links.items():
                link.order(wire.Start(epoch, self._own[name], self._neighbours(name)))

    def _neighbours(self, host: str) -> tuple[str, ...]:
        names = [*self.wires]
        at = names.index(host)
        beside = (names[at - 1], names[(at + 1) % len(names)])
        return tuple(name for name in dict.fromkeys(beside) if name != host)

    def _stop(self, epoch: int, *, explain: bool) -> None:
        self._starting = 0
        self._order(wire.Stop(epoch, explain))
        if epoch > self._ordered:
            for host in self._links:
                stopped = events.Heard(host, epoch, events.HostStopped())
                self.agenda.after(0.0, self.do, self.hear, stopped)

    def _go_on(self, order: events.GoOn) -> None:
        self._ordered = order.epoch
        for host, commands in order.missing.items():
            for command in commands:
                self._links[host].order(wire.Order(order.epoch, command))

    # An agent again, where one was lost.

    def _reach(self, order: events.Reach) -> None:
        link = self._links[order.host]
        link.close()
        if order.fenced:
            return self._start_agent(order)
        away = not self.wires[order.host].up
        free = not (away or link.agent.alive)
        self.agenda.after(PROBE_S if away else 0.05, self.do, self._probed, order, free)
        return None

    def _probed(self, order: events.Reach, free: bool) -> None:
        if self.state.settled:
            return
        if free:
            self._start_agent(order)
        else:
            self._greet(order, self._links[order.host].agent)

    def _start_agent(self, order: events.Reach) -> None:
        if self.wires[order.host].up:
            self.agenda.after(self.rng.uniform(0.5, 2), self.do, self._started, order)
        else:
            lost = events.HostLost(order.host, "cannot be reached by ssh")
            self.agenda.after(SSH_S, self.do, self.hear, lost)

    def _started(self, order: events.Reach) -> None:
        if self.state.settled:
            return
        if not self.wires[order.host].up:
            self.hear(events.HostLost(order.host, "cannot be reached by ssh"))
        else:
            agent = self.agents[order.host] = self._new_agent(order.host)
            self._greet(order, agent)

    def _greet(self, order: events.Reach, agent: Agent) -> None:
        self._links[order.host] = link = Link(self, order.host, agent)
        link.order(wire.Stop(order.epoch))
        link.run(next(self._generations))

    def _shut_down(self) -> None:
        """All agents but lost ones are dismissed; those are left to their fence."""
        for host, link in self._links.items():
            if not self.state.hosts[host].lost and self.wires[host].up:
                self.agenda.after(
                    self.wires[host].delay_s, link.agent.do, link.agent.dismiss, "shut down"
                )
        self.agenda.after(4.0, self.die)
