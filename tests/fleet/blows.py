"""What happens to a fleet from outside, one method for each kind of `schedule`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.cluster import Phase
from tests.fleet import wire
from tests.fleet.agents import Agent
from tests.fleet.ranks import Rank
from tests.fleet.schedule import LASTING, Blow

if TYPE_CHECKING:
    from tests.fleet.world import World


_TOLD_S = 5.0


class Blows:
    """Strikes a world, and tells its rules whom to blame."""

    def __init__(self, world: "World") -> None:
        self.world = world

    def strike(self, blow: Blow) -> None:
        name = f"h{blow.host}"
        do: Callable[[Blow, str], None] = getattr(self, f"_{blow.kind.replace(' ', '_')}")
        do(blow, name)
        self.world.wires[name].changed()

    def _later(self, blow: Blow, do: Callable[..., None], *args: object) -> None:
        """Do this when it is over; its consequences count from then on."""
        if blow.for_s < LASTING:
            self.world.last_s = max(self.world.last_s, self.world.agenda.now_s + blow.for_s)
            self.world.agenda.after(blow.for_s, do, *args)

    def _rank(self, blow: Blow, name: str) -> Rank | None:
        """The process, if there is one now."""
        living = [rank for agent in self.world.every_agent[name] for rank in agent.living]
        return next((rank for rank in living if rank.number == blow.rank), None)

    def _blame_rank(self, blow: Blow, rank: Rank, *, plain: bool = False) -> None:
        epochs = [epoch for epoch, ring in self.world.rings.items() if ring is rank.ring]
        host = f"h{blow.host}"
        self.world.rules.blame(blow, host, rank=rank.number, epoch=epochs[0], plain=plain)

    def _exit(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            self._blame_rank(blow, rank)
            rank.exit(blow.code)

    def _stop(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            self._blame_rank(blow, rank)
            rank.stopped = True
            self._later(blow, self._resume, rank)

    def _resume(self, rank: Rank) -> None:
        rank.stopped = False
        rank.ring.wake()

    def _stuck(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            # Within an exchange it cannot be told from the others there.
            self._blame_rank(blow, rank, plain=rank.page.waits % 2 == 0)
            rank.stuck = True

    def _wedge(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            self._blame_rank(blow, rank)
            until_s = self.world.agenda.now_s + blow.for_s
            rank.stuck, rank.wedged_until_s = True, max(rank.wedged_until_s, until_s)
            self._later(blow, self.world.rules.nothing)

    def _leak(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            self._blame_rank(blow, rank)
            rank.show(peak_bytes=10 << 30)
            self._set_leak(name, 5 << 30)
            self._later(blow, self._set_leak, name, 0)
            rank.exit(-9)

    def _set_leak(self, name: str, nbytes: int) -> None:
        self.world.leaks[name] = nbytes

    def _mute(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            self._blame_rank(blow, rank)
            rank.stuck = True
            self.world.agenda.after(2.0, rank.mute)

    def _refuse(self, blow: Blow, name: str) -> None:
        if rank := self._rank(blow, name):
            self._blame_rank(blow, rank)
            rank.say("refused")

    def _slow(self, blow: Blow, name: str) -> None:
        self._set_slow(4.0)
        self._later(blow, self._set_slow, 1.0)

    def _set_slow(self, factor: float) -> None:
        self.world.slow = factor
        for ring in self.world.rings.values():
            ring.slow = factor

    def _fabric(self, blow: Blow, name: str) -> None:
        # Long enough to be told from a rank that stalls, if it was whole before.
        serving = self.world.control.state.phase is Phase.READY
        several = len(self.world.wires) > 1
        self.world.rules.blame(blow, "", plain=serving and several and blow.for_s > _TOLD_S)
        self._cut_fabric(1)
        self._later(blow, self._cut_fabric, -1)

    def _cut_fabric(self, more: int) -> None:
        self.world.fabric_cuts += more
        for ring in self.world.rings.values():
            ring.cut = bool(self.world.fabric_cuts) and len(self.world.wires) > 1
            ring.wake()

    def _kill_agent(self, blow: Blow, name: str) -> None:
        self.world.rules.blame(blow, name)
        for agent in self.world.every_agent[name]:
            if agent.alive:
                agent.die()

    def _stop_agent(self, blow: Blow, name: str) -> None:
        self.world.rules.blame(blow, name)
        agent = self.world.every_agent[name][-1]
        if agent.answers:
            agent.stop()
            self._later(blow, self._go_on, agent, name)

    def _go_on(self, agent: Agent, name: str) -> None:
        agent.go_on()
        self.world.wires[name].changed()

    def _host_gone(self, blow: Blow, name: str) -> None:
        self._cut(blow, name)
        for agent in self.world.every_agent[name]:
            agent.alive = False
            for rank in agent.children:
                rank.exit(-9)

    def _cut(self, blow: Blow, name: str) -> None:
        self.world.rules.blame(blow, name)
        self.world.wires[name].cuts += 1
        self._later(blow, self._mend, name)

    def _mend(self, name: str) -> None:
        self.world.wires[name].cuts -= 1
        self.world.wires[name].changed()

    def _reset(self, blow: Blow, name: str) -> None:
        self.world.rules.blame(blow, name)
        for session in [*self.world.wires[name].sessions]:
            session.reset()

    def _late(self, blow: Blow, name: str) -> None:
        old_s = self.world.wires[name].delay_s
        self._set_delay(name, self.world.rng.uniform(0.3, 1.0))
        self._later(blow, self._set_delay, name, min(old_s, 0.05))

    def _set_delay(self, name: str, delay_s: float) -> None:
        self.world.wires[name].delay_s = delay_s

    def _stale(self, blow: Blow, name: str) -> None:
        """The last words of an earlier epoch, again, from a host that is there."""
        state = self.world.control.state
        old = [word for word in self.world.spoken if word.host == name and word.epoch < state.epoch]
        if not state.settled and not state.hosts[name].lost:
            for word in old[-9:]:
                self.world.control.do(self.world.control.hear, word)

    def _stale_order(self, blow: Blow, name: str) -> None:
        self.world.rules.blame(blow, name)
        agent = self.world.every_agent[name][-1]
        old = self.world.rng.choice([wire.Stop, wire.Start, wire.Order])
        for session in self.world.wires[name].sessions:
            if old is wire.Order:
                message: object = wire.Order(agent.state.epoch - 1, core.Command(1, core.Drain()))
            elif old is wire.Start:
                message = wire.Start(agent.state.epoch, (blow.rank,))
            else:
                message = wire.Stop(agent.state.epoch - 1)
            session.send(session.far, message)

    def _sleep(self, blow: Blow, name: str) -> None:
        for each in self.world.wires:
            self.world.rules.blame(blow, each)
        self.world.control.stopped = True
        for each in self.world.wires.values():
            each.changed()
        self._later(blow, self._awake)

    def _awake(self) -> None:
        self.world.control.go_on()
        for each in self.world.wires.values():
            each.changed()

    def _kill_coordinator(self, blow: Blow, name: str) -> None:
        self.world.control.die()
        self.world.rules.deserted()
        if not self.world.control.state.settled:
            self._later(blow, self.world.succeed)

    def _renew(self, blow: Blow, name: str) -> None:
        if not self.world.control.state.settled:
            self.world.control.do(self.world.control.hear, events.Renewed())

    def _dismiss(self, blow: Blow, name: str) -> None:
        if not self.world.control.state.settled:
            now = self.world.rng.random() < 0.5
            self.world.control.do(self.world.control.hear, events.Dismissed(now))
