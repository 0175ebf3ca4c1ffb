"""The agents of a coordinator that is gone: asked how they stand, gone on with, or ended."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dsv4_tp.coordinator.adoption import Adoption, Standing, adopt, first_generation
from dsv4_tp.coordinator.epochs import LADDER_S
from dsv4_tp.coordinator.link import is_free
from dsv4_tp.coordinator.members import Rank
from dsv4_tp.errors import Dsv4Error, OutrankedError
from dsv4_tp.launcher.agents import Agent
from dsv4_tp.rpc.convert import command_from_proto, report_from_proto
from dsv4_tp.rpc.status import calling
from dsv4_tp.v1.agent_pb2 import AdoptRequest, AdoptResponse

_ANSWER_S = 4.0  # for an agent; one that is gone is known to be at once
_LOOK_S = 0.5

Tell = Callable[[str], None]
_Answer = AdoptResponse | Dsv4Error


@dataclass(frozen=True, slots=True)
class Others:
    """The agents of earlier coordinators, of which there were `turn`.

    Once asked, none of them obeys those any more. One that hears nothing ends within `fence_s`.
    """

    agents: Sequence[Agent]
    turn: int
    fence_s: float

    async def take_over(self, hosts: Mapping[int, str], tell: Tell) -> Adoption | str:
        """Their ranks, which serve; or why not, and then the agents are ended.

        `hosts` names the host of each rank.
        """
        answers = await self._ask_all()
        found = _judged(answers, hosts, self.turn)
        if isinstance(found, str):
            await self._end_all(answers, tell)
        return found

    async def end(self, why: str, tell: Tell) -> str:
        """End them, whatever they have; returns why."""
        await self._end_all(await self._ask_all(), tell)
        return why

    async def _ask_all(self) -> dict[str, _Answer]:
        """What each says, by its host's name."""
        answers = await asyncio.gather(*(_ask(agent, self.turn) for agent in self.agents))
        return {agent.host.name: said for agent, said in zip(self.agents, answers, strict=True)}

    async def _end_all(self, answers: Mapping[str, _Answer], tell: Tell) -> None:
        ends = (self._end(agent, answers[agent.host.name], tell) for agent in self.agents)
        await asyncio.gather(*ends)

    async def _end(self, agent: Agent, answer: _Answer, tell: Tell) -> None:
        """See that nothing is left on a host; one that is out of reach sees to that itself."""
        if isinstance(answer, AdoptResponse | OutrankedError):
            await agent.end()
        elif agent.host.is_local:
            await agent.reap()
        else:
            await _wait_for_fence(agent, self.fence_s + LADDER_S, tell)


def _judged(answers: Mapping[str, _Answer], hosts: Mapping[int, str], turn: int) -> Adoption | str:
    if silent := [str(answer) for answer in answers.values() if isinstance(answer, Dsv4Error)]:
        return "; ".join(silent)
    said = {name: each for name, each in answers.items() if isinstance(each, AdoptResponse)}
    try:
        standings = {name: standing_of(name, answer) for name, answer in said.items()}
    except (Dsv4Error, LookupError, TypeError, ValueError) as error:
        return f"its agents say what this version does not know: {error}"
    return adopt(standings, hosts, turn)


async def _ask(agent: Agent, turn: int) -> _Answer:
    try:
        async with agent.service() as stub:
            with calling(agent.host.name):
                request = AdoptRequest(generation=first_generation(turn))
                return await stub.Adopt(request, timeout=_ANSWER_S)
    except Dsv4Error as error:
        return error


async def _wait_for_fence(agent: Agent, patience_s: float, tell: Tell) -> None:
    """Wait until this agent and its ranks are gone: its port says so, or enough time has passed."""
    if await is_free(agent.address):
        return
    who = f"the last launch's agent on {agent.host.name}"
    tell(f"{who} does not answer; waiting for up to {patience_s:g} s, by when its ranks are gone")
    ends_s = time.monotonic() + patience_s
    while time.monotonic() < ends_s:
        await asyncio.sleep(_LOOK_S)
        if await is_free(agent.address):
            return


def standing_of(host: str, answer: AdoptResponse) -> Standing:
    """What the agent of this host has answered."""
    return Standing(
        epoch=answer.epoch,
        ranks={
            each.report.rank: Rank(
                host,
                report_from_proto(each.report),
                facts=dict(each.prepared.facts),
                joined=True,
                weight_bytes=each.ready.weight_bytes,
            )
            for each in answer.ranks
        },
        commands=answer.commands,
        last=tuple(map(command_from_proto, answer.last)),
        owed=frozenset(answer.owed),
    )
