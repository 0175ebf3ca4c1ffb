"""Hosts, agents, ranks and clients that do what the coordinator orders, or come to harm.

Whatever happens here can happen in a cluster. Every promise that must hold at all times is
asserted as it is kept, or not.
"""

from collections import Counter
from dataclasses import dataclass, field
from random import Random

from dsv4_tp import core
from dsv4_tp.config import Restart
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.cluster import first_state, refused
from dsv4_tp.coordinator.narrate import notes
from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.coordinator.state import step

RANKS = {0: "a", 1: "a", 2: "b", 3: "c"}
FENCE_S, DRAIN_S = 3.0, 5.0
LENGTH = 6  # of each text


def token(name: str, index: int) -> int:
    return hash((name, index)) % 1000


@dataclass
class Agent:
    """Of one host: what runs there, and whether the coordinator hears of it."""

    epoch: int = 0
    linked: bool = True
    lost_s: float = 0.0  # since when not
    ranks: dict[int, str] = field(default_factory=dict)  # how far each is
    mailbox: list[events.Action] = field(default_factory=list)


class World:
    def __init__(self, restart: Restart) -> None:
        limits = {"beat_s": 0.5, "prepare_s": 60.0, "fence_s": FENCE_S, "drain_s": DRAIN_S}
        self.state = first_state(RANKS, Requests(batch=2, queue=2), restart, **limits, now_s=0.0)
        self.now_s = 0.0
        self.agents = {host: Agent() for host in RANKS.values()}
        self.wanted: list[events.Reach] = []
        self.said: list[events.Heard] = []
        self.epoch = 0
        self.serving = False
        self.over: events.Settle | None = None
        self.jobs: dict[str, core.Request] = {}  # of this epoch, in their order
        self.next: dict[str, int] = {}  # index of each one's next token
        self.cancelled: set[str] = set()
        self.numbers = 0
        self.heard: dict[str, list[int]] = {}
        self.ends: Counter[str] = Counter()
        self.asked = 0
        self.unended = 0  # when the cluster had ended
        self.replayed = 0

    # What happens.

    def hear(self, event: events.Event) -> None:
        before = self.state
        self.state, actions = step(before, event, self.now_s)
        list(notes(before, event, self.state, actions))  # whatever happens, it can be told
        for action in actions:
            self.do(action)

    def says(self, host: str, word: events.Word) -> None:
        agent = self.agents[host]
        if agent.linked:
            event = events.Heard(host, agent.epoch, word)
            self.said.append(event)
            self.hear(event)

    def echo(self, chance: Random) -> None:
        """A word of an older epoch comes late, or once more."""
        if late := [event for event in self.said if event.epoch < self.epoch]:
            self.hear(chance.choice(late))

    def tick(self, after_s: float = 0.25) -> None:
        """Time passes; agents that hear nothing end what they run."""
        self.now_s += after_s
        for host, agent in self.agents.items():
            if agent.linked:
                reports = tuple(core.RankReport(rank, "decode") for rank in agent.ranks)
                self.hear(events.Heard(host, agent.epoch, events.HostBeat(reports)))
            elif self.now_s - agent.lost_s >= FENCE_S:
                agent.ranks.clear()
        self.hear(events.Ticked())

    def deliver(self, host: str) -> None:
        """An agent reads its orders, and does them."""
        agent = self.agents[host]
        for order in agent.mailbox[:]:
            agent.mailbox.remove(order)
            if isinstance(order, events.StartEpoch) and order.epoch > agent.epoch:
                assert not agent.ranks
                agent.epoch = order.epoch
                agent.ranks = {rank: "new" for rank, at in RANKS.items() if at == host}
            elif order == events.JoinEpoch(agent.epoch):
                assert {*agent.ranks.values()} <= {"prepared"}, "no rank meets the others alone"
                agent.ranks = dict.fromkeys(agent.ranks, "meeting")
            elif order == events.StopEpoch(agent.epoch) and agent.ranks:
                agent.ranks.clear()
                self.says(host, events.HostStopped())

    def work(self, rank: int) -> None:
        """A rank gets on with it."""
        agent = self.agents[RANKS[rank]]
        match agent.ranks.get(rank):
            case "new":
                agent.ranks[rank] = "prepared"
                self.says(RANKS[rank], events.Prepared(rank, {}))
            case "meeting":
                agent.ranks[rank] = "joined"
                self.says(RANKS[rank], events.Joined(rank))
            case "joined" if self.all_are("joined", "loaded"):
                agent.ranks[rank] = "loaded"
                self.says(RANKS[rank], events.Loaded(rank, 1))
            case "loaded" if rank == 0 and agent.linked and self.jobs:
                self.serve(next(iter(self.jobs.values())))
            case _:
                pass

    def all_are(self, *stages: str) -> bool:
        found = {rank: stage for each in self.agents.values() for rank, stage in each.ranks.items()}
        return len(found) == len(RANKS) and set(found.values()) <= {*stages}

    def serve(self, job: core.Request) -> None:
        """One more token, or the end."""
        index, reason = self.next[job.id], core.FinishReason.LENGTH
        if index < LENGTH and job.id not in self.cancelled:
            self.next[job.id] += 1
            self.says("a", events.Said(0, core.TokenEvent(job.id, index, token(job.id, index))))
            return
        if job.id in self.cancelled:
            reason = core.FinishReason.CANCELLED
        del self.jobs[job.id]
        finish = core.FinishEvent(job.id, reason, 1, index, 0, 0, 0, 0)
        self.says("a", events.Said(0, finish))

    def kill(self, rank: int) -> None:
        """A rank dies; its agent ends the others there."""
        agent = self.agents[RANKS[rank]]
        if agent.ranks.pop(rank, None):
            self.says(RANKS[rank], events.Lost(rank, core.Loss.KILLED, "killed", ""))
            agent.ranks.clear()
            self.says(RANKS[rank], events.HostStopped())

    def cut(self, host: str) -> None:
        """The way to a host is lost, and what is on it."""
        agent = self.agents[host]
        if agent.linked:
            agent.linked, agent.lost_s = False, self.now_s
            agent.mailbox.clear()
            self.hear(events.HostLost(host, "cut"))

    def crash(self, host: str) -> None:
        """An agent dies, and its guard ends the ranks."""
        self.agents[host].ranks.clear()
        self.cut(host)
        self.agents[host].epoch = 0

    def reach(self, *, there: bool) -> None:
        """An agent that is wanted is found, or is not."""
        if not self.wanted:
            return
        order = self.wanted.pop(0)
        agent = self.agents[order.host]
        if not there:
            self.hear(events.HostLost(order.host, "no route"))
            return
        if order.fenced:
            assert not agent.ranks, "a fenced agent has no ranks"
            agent.epoch = 0
        agent.linked, agent.mailbox = True, [events.StopEpoch(order.epoch)]
        self.says(order.host, events.HostBeat(tuple(core.RankReport(r, "x") for r in agent.ranks)))

    def ask(self, limit_s: float | None) -> None:
        error = refused(self.state)
        assert (error is None) <= self.serving
        if error is None:
            self.asked += 1
            name = f"r{self.asked}"
            self.heard[name] = []
            request = core.Request(name, (1,), LENGTH, core.Sampling())
            self.hear(events.Asked(request, limit_s))

    def leave(self, number: int) -> None:
        self.hear(events.Abandoned(f"r{number}"))

    # What follows.

    def do(self, action: events.Action) -> None:
        assert self.over is None, "nothing is ordered after the end"
        match action:
            case events.StartEpoch(epoch=epoch):
                assert epoch == self.epoch + 1
                assert not any(agent.ranks for agent in self.agents.values()), "one at a time"
                self.epoch, self.numbers = epoch, 0
                self.jobs, self.next, self.cancelled = {}, {}, set()
                self.order(action)
            case events.StopEpoch(epoch=epoch) | events.JoinEpoch(epoch=epoch):
                assert epoch == self.epoch
                self.order(action)
            case events.Reach():
                assert action.epoch == self.epoch
                self.wanted.append(action)
            case events.Broadcast():
                self.command(action)
            case events.Deliver(event=event):
                self.told(event)
            case events.Fail(request_id=name):
                assert not self.serving
                self.ends[name] += 1
            case events.Serve(ready=ready):
                assert self.all_are("loaded") or not ready
                self.replayed += len(self.state.requests.open) * ready
                self.serving = ready
            case events.Settle():
                self.over = action
                self.unended = len(self.state.requests.open)
                self.ends.update([*self.state.requests.open])

    def order(self, action: events.Action) -> None:
        for agent in self.agents.values():
            if agent.linked:
                agent.mailbox.append(action)

    def command(self, action: events.Broadcast) -> None:
        self.numbers += 1
        assert (action.epoch, action.command.number) == (self.epoch, self.numbers)
        match action.command.action:
            case core.Submit(request=request):
                assert request.told == tuple(self.heard[request.id])
                self.jobs[request.id], self.next[request.id] = request, len(request.told)
            case core.Cancel(request_id=name):
                self.cancelled.add(name)
            case core.Drain():
                pass

    def told(self, event: core.Told) -> None:
        name = event.request_id
        assert not self.ends[name], "nothing comes after the end"
        if isinstance(event, core.TokenEvent):
            assert event.index == len(self.heard[name]), "none twice, none left out"
            assert event.token == token(name, event.index)
            self.heard[name].append(event.token)
        else:
            assert event.generated_tokens == len(self.heard[name])
            self.ends[name] += 1
