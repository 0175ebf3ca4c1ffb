"""The agents of one launch, found fit. One that is gone is started again, and looked at again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsv4_tp.config import ClusterConfig
from dsv4_tp.coordinator.adoption import Adoption
from dsv4_tp.coordinator.setup import AgentSetup, Setup
from dsv4_tp.launcher.agents import Agent, end_agents, start_agents
from dsv4_tp.launcher.authority import Authority
from dsv4_tp.launcher.preflight import Facts, data_ips, inspect_hosts

Check = Callable[[Facts], None]  # raises PreflightError if a host is not fit
Tell = Callable[[Sequence[Agent]], None]


class Crew:
    """One agent on each host. Whoever makes it sees that they are ended and reaped."""

    def __init__(
        self,
        config: ClusterConfig,
        authority: Authority,
        agents: Sequence[Agent],
        facts: Facts,
        check: Check,
    ) -> None:
        """`check` looks at the facts of all hosts."""
        self._config = config
        self._authority = authority
        self._agents = {agent.host.name: agent for agent in agents}
        self.facts = facts  # of all hosts, as they were when looked at last
        self._check = check
        self._tell: Tell | None = None

    @property
    def setups(self) -> tuple[AgentSetup, ...]:
        """What a coordinator has to know of each."""
        return tuple(map(self._setup, self._agents.values()))

    def check(self) -> None:
        """Raises PreflightError, which names every host that is not fit, and why."""
        self._check(self.facts)

    def tell(self, tell: Tell) -> None:
        """Tell of the agents, now and whenever one has been replaced."""
        self._tell = tell
        tell([*self._agents.values()])

    async def start_again(self, name: str) -> AgentSetup:
        """Start another agent on the host of this name, whose old one is gone.

        Raises:
            PreflightError: there is none to be had, or the host is not what it was.
        """
        old = self._agents[name]
        await old.reap()
        start_s = self._config.timeouts.start_s
        (agent,) = await start_agents([old.host], self._authority, start_s=start_s)
        try:
            facts = await inspect_hosts([agent], self._config, data_ips(self._with(agent)))
            self._check({**self.facts, **facts})
        except BaseException:
            await end_agents([agent])
            raise
        self._agents[name] = agent
        self.facts = {**self.facts, **facts}
        if self._tell:
            self.tell(self._tell)
        return self._setup(agent)

    async def reap(self) -> None:
        """See that dismissed agents are gone."""
        await asyncio.gather(*(agent.reap() for agent in self._agents.values()))

    def _with(self, agent: Agent) -> list[Agent]:
        return [*({**self._agents, agent.host.name: agent}).values()]

    def _setup(self, agent: Agent) -> AgentSetup:
        config, host = self._config, agent.host
        return AgentSetup(
            host=host.name,
            address=agent.address,
            data_ip=data_ips(self._with(agent))[host.name],
            ranks=config.ranks_on(host),
            model_path=config.model_path_on(host),
        )


@dataclass(frozen=True, slots=True)
class Staff:
    """What a coordinator is given."""

    setup: Setup
    crew: Crew
    adoption: Adoption | None = None  # of ranks that serve already
