"""A whole cluster on a simulated clock, what happens to it, and what its clients are told."""

import random
from collections import deque

from dsv4_tp import core
from dsv4_tp.config import Timeouts
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.adoption import adopt, first_generation
from dsv4_tp.coordinator.cluster import refused
from dsv4_tp.launcher.takeover import standing_of
from tests.fleet import wire
from tests.fleet.agenda import Agenda
from tests.fleet.agents import DEADLINES, Agent
from tests.fleet.blows import Blows
from tests.fleet.control import Control
from tests.fleet.ranks import STOP_ID, Ring
from tests.fleet.rules import Rules
from tests.fleet.schedule import Schedule

BOUND_S = 200.0  # after the last blow, for all that may follow from it
_FENCED_S = 70.0  # after the end of the coordinator, for ranks to end and memory to come back


class World:
    """Runs one schedule; `Broken` names a promise that was not kept."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.rng = random.Random(-schedule.seed)
        self.agenda = Agenda()
        names = [f"h{number}" for number in range(schedule.hosts)]
        each = schedule.ranks_each
        self.ranks = {n: names[n // each] for n in range(schedule.hosts * each)}
        self.wires = {name: wire.Wire(self.rng.uniform(0.001, 0.05)) for name in names}
        self.rings: dict[int, Ring] = {}
        self.fabric_cuts, self.slow = 0, 1.0
        self.leaks = dict.fromkeys(names, 0)  # bytes that ended ranks have left behind
        self.every_agent: dict[str, list[Agent]] = {name: [] for name in names}
        self.rules = Rules(self)
        self.spoken: deque[events.Heard] = deque(maxlen=500)
        self.ended_s: float | None = None  # when the coordinator was
        self.last_s = max(blow.at_s for blow in schedule.blows)  # of what happens from outside
        for blow in schedule.blows:
            self.agenda.after(blow.at_s, Blows(self).strike, blow)
        self.agents = {name: self._agent(name) for name in names}
        self.control = self._control(0)
        self.adoptions, self.begun_anew = 0, False
        self.agenda.after(1.0, self._ask)
        self.agenda.after(1.0, self._patrol)

    def run(self) -> int:
        """How often a promise was looked at; raises Broken at the first that was not kept."""
        self.agenda.run(until=self._done)
        self.rules.at_the_end()
        return self.rules.looks

    def succeed(self) -> None:
        """Another coordinator is started. If it cannot go on, it begins anew, in another world."""
        if self.control.alive or self.begun_anew:
            return
        turn = self.control.turn + 1
        there = {
            name: agent
            for name, agent in self.agents.items()
            if agent.answers and self.wires[name].up
        }
        standings = {
            name: standing_of(name, agent.stand(first_generation(turn)))
            for name, agent in there.items()
        }
        whole = len(there) == len(self.agents)
        adoption = adopt(standings, self.ranks, turn) if whole else "a host is silent"
        if isinstance(adoption, str):
            self.begun_anew = True
            for agent in there.values():
                agent.dismiss(adoption)
            return
        self.adoptions += 1
        self.control = self._control(turn)
        self.control.adopt(adoption)

    # Life.

    def _control(self, turn: int) -> Control:
        return Control(
            self.agenda,
            self.rng,
            self.wires,
            self.ranks,
            agents=self.agents,
            new_agent=self._agent,
            told=self.rules.told,
            decided=self._decided,
            turn=turn,
        )

    def _agent(self, name: str) -> Agent:
        agent = Agent(
            self.agenda,
            name,
            self._ring,
            self.rules.spawning,
            leaked=self.leaks.__getitem__,
            haunted=self._haunted,
            send=self._pulse,
        )
        left = (one for one in self.every_agent[name] if one.alive or one.living)
        self.every_agent[name] = [*left, agent]
        return agent

    def _haunted(self, host: str) -> bool:
        return any(not agent.alive and agent.living for agent in self.every_agent[host])

    def _pulse(self, sender: Agent, host: str) -> None:
        """On the way that ranks use, which is none of the coordinator's."""
        if not self.fabric_cuts:
            agent = self.every_agent[host][-1]
            agent.do(agent.pulsed, sender.host, sender.state.epoch)

    def _ring(self, epoch: int) -> Ring:
        if epoch not in self.rings:
            alarm_s = Timeouts(join_s=DEADLINES.join_s).alarm_s
            ring = Ring(self.agenda, self.rng, len(self.ranks), alarm_s=alarm_s)
            ring.cut, ring.slow = bool(self.fabric_cuts), self.slow
            self.rings[epoch] = ring
        return self.rings[epoch]

    def _decided(self, event: events.Event, actions: tuple[events.Action, ...]) -> None:
        if isinstance(event, events.Heard) and not isinstance(event.word, events.HostBeat):
            self.spoken.append(event)
        self.rules.decided(actions)

    def _patrol(self) -> None:
        self.agenda.after(1.0, self._patrol)
        for agents in self.every_agent.values():
            for agent in agents:
                self.rules.fenced(agent)

    def _ask(self) -> None:
        """A client comes by, and another one a while later."""
        self.agenda.after(self.rng.uniform(0.3, 3), self._ask)
        self.control.do(self._submit)

    def _submit(self) -> None:
        enough = self.agenda.now_s > self.last_s and self.rules.served_since(self.last_s)
        if enough or self.control.state.settled or refused(self.control.state):
            return
        rng, name = self.rng, f"r{len(self.rules.clients)}"
        if rng.random() < 0.15:
            length = rng.randint(2, 30)
            asked = core.ScoreRequest(name, ((1,) * length,) * 2)
        else:
            prompt = tuple(rng.randrange(STOP_ID) for _ in range(rng.randint(1, 9)))
            how = core.Sampling(seed=rng.randint(1, 25))
            asked = core.Request(name, prompt, rng.randint(1, 20), how, stop_ids=(STOP_ID,))
        self.rules.asks(asked)
        limit_s = rng.uniform(0.5, 6) if rng.random() < 0.15 else None
        self.control.hear(events.Asked(asked, limit_s))
        if rng.random() < 0.15:
            gone = events.Abandoned(name)
            self.agenda.after(rng.uniform(0.1, 4), self.control.do, self._abandon, gone)

    def _abandon(self, gone: events.Abandoned) -> None:
        if not self.control.state.settled:
            self.rules.clients[gone.request_id].gone = True
            self.control.hear(gone)

    def _done(self) -> bool:
        """Nothing more is to come: it serves, or it has ended and left nothing behind."""
        now_s, state = self.agenda.now_s, self.control.state
        if now_s < self.last_s:
            return False
        if state.settled or not self.control.alive:
            self.ended_s = now_s if self.ended_s is None else self.ended_s
            return now_s > self.ended_s + _FENCED_S
        if self.rules.served_since(self.last_s) and self.rules.idle() and self.control.answers:
            return True
        self.rules.hold(now_s < self.last_s + BOUND_S, f"{state.phase} for too long")
        return False
