"""The whole life of a cluster, in the order it happens."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from socket import socket
from typing import TypeVar

from dsv4_tp import demo
from dsv4_tp.config import ClusterConfig
from dsv4_tp.config.environment import state_dir
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.coordinator.setup import Setup
from dsv4_tp.core import DType
from dsv4_tp.history import name_of, new_launch, open_launch
from dsv4_tp.launcher.agents import Agent, end_agents, start_agents
from dsv4_tp.launcher.authority import Authority, authority_of
from dsv4_tp.launcher.crew import Crew
from dsv4_tp.launcher.preflight import (
    check_hosts,
    data_ips,
    dtype_of,
    inspect_hosts,
    rooms_of,
)
from dsv4_tp.launcher.remember import remember
from dsv4_tp.launcher.serve import Job, Tell, run_beside, served
from dsv4_tp.launcher.verify import verify_hosts
from dsv4_tp.layouts import Catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan import Plan, Replan, Room, make_plan, with_context_that_fits
from dsv4_tp.rpc.auth import Identity
from dsv4_tp.rpc.registry import registered
from dsv4_tp.rpc.server import LOOPBACK, local_server
from dsv4_tp.serving.door import listen, url

_T = TypeVar("_T")


def launch(
    config: ClusterConfig,
    spec: ModelSpec,
    catalog: Catalog,
    *,
    job: Job[_T] | None = None,
    tell: Tell,
) -> _T | None:
    """Run a cluster for as long as `job` takes; see the package for the whole promise."""
    try:
        return asyncio.run(_Launch(config, spec, catalog, tell).run(job))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


class _Launch:
    """One launch: what several of its steps need."""

    def __init__(
        self, config: ClusterConfig, spec: ModelSpec, catalog: Catalog, tell: Tell
    ) -> None:
        self._config = config
        self._spec = spec
        self._catalog = catalog
        self._tell = tell
        self._model_dir = demo.model_dir(config.model.path)
        self._coordinator: Coordinator | None = None
        self._interrupted = False

    async def run(self, job: Job[_T] | None) -> _T | None:
        """What can be refused without a host is refused before any is touched."""
        self._catch_signals()
        self._replan(None)(self._config.weights)
        prompts = Prompts(self._model_dir, self._spec)
        server, port = local_server(self._config.ports.control or 0)
        address = f"{LOOPBACK}:{port}"
        with (
            self._door(job is None) as door,
            registered(state_dir(), name=self._config.name, address=address) as entry,
            open_launch(state_dir(), new_launch(entry.name, time.time())) as history,
        ):
            async with (
                self._agents(entry.name, history) as (setup, crew),
                served(server, setup, prompts, crew, door) as self._coordinator,
            ):
                self._tell(f"{entry.name} at {address}: {_summary(setup)}")
                if door:
                    self._tell(f"openai endpoint: {url(door)}, model {setup.model_name}")
                return await run_beside(self._coordinator, job, address, self._tell)

    @contextmanager
    def _door(self, wanted: bool) -> Generator[socket | None]:
        """Where HTTP comes in, if anybody may: a job has its cluster to itself."""
        http = self._config.http
        if not wanted:
            yield None
            return
        with listen(http.bind, http.port) as door:
            yield door

    @asynccontextmanager
    async def _agents(self, name: str, history: Path) -> AsyncGenerator[tuple[Setup, Crew]]:
        """Agents on all hosts, found fit. The coordinator ends them, and we see them gone."""
        authority = authority_of(state_dir(), name)
        agents = await start_agents(self._config.hosts, authority)
        try:
            crew, plan, dtype = await self._prepare(agents, authority)
            remember(history, self._config, plan, crew.facts)
            setup = self._setup(crew, plan, dtype, authority.coordinator(), history)
        except BaseException:
            await end_agents(agents)
            raise
        try:
            yield setup, crew
        finally:
            await crew.reap()

    async def _prepare(
        self, agents: Sequence[Agent], authority: Authority
    ) -> tuple[Crew, Plan, DType]:
        """Preflight, and what it settles: dtype, the plan in bytes."""
        config = self._config
        facts = await inspect_hosts(agents, config, data_ips(agents))
        dtype = dtype_of(config, facts, torch_dtype=self._spec.torch_dtype)
        replan = self._replan(dtype)
        plan = self._with_context(replan(config.weights), rooms_of(config, facts))
        check = partial(check_hosts, config, plan=plan, replan=replan)
        check(facts)
        await verify_hosts(agents, config, plan.parts, self._tell)
        return Crew(config, authority, agents, facts, check), plan, dtype

    def _setup(
        self, crew: Crew, plan: Plan, dtype: DType, identity: Identity, history: Path
    ) -> Setup:
        config = self._config
        return Setup(
            name=name_of(history.name),
            agents=crew.setups,
            identity=identity,
            spec=self._spec,
            model_path=self._model_dir,
            model_name=config.model.path,
            dtype=dtype,
            parts=plan.parts,
            planned_bytes=tuple(held.total for held in plan.rank_bytes),
            data_port=config.ports.data,
            prefill_chunk=config.prefill_chunk,
            context=plan.context,
            cache_rows=plan.cache_rows,
            batch=config.batch,
            mtp=config.mtp,
            queue=config.queue,
            time_limit_s=config.time_limit_s,
            prefix_bytes=plan.prefix_bytes,
            prefixes_on_disk=config.prefix_cache.on_disk,
            timeouts=config.timeouts,
            restart=config.restart,
            history=history,
        )

    def _with_context(self, plan: Plan, rooms: Sequence[Room]) -> Plan:
        """The context asked for, which has to fit; if none is, as much of the model's as fits."""
        if self._config.context is not None:
            return plan
        fitting = with_context_that_fits(plan, rooms)
        if fitting.context < plan.context:
            of = f"of the model's {plan.context}"
            self._tell(f"context: {fitting.context} tokens, {of}, fit into memory here")
        return fitting

    def _replan(self, dtype: DType | None) -> Replan:
        """The plan of this launch, of the weights it is given."""
        config = self._config
        return partial(
            make_plan,
            self._spec,
            self._catalog,
            expert_split=config.experts,
            dtype=dtype,
            context=config.context,
            cache_rows=config.cache_rows,
            batch=config.batch,
            prefix_bytes=config.prefix_cache.nbytes,
            chunk=config.prefill_chunk,
        )

    def _catch_signals(self) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._interrupt, main)

    def _interrupt(self, main: "asyncio.Task[object]") -> None:
        """The first signal lets running work finish, the next one does not."""
        if not self._interrupted:
            self._interrupted = True
            main.cancel()
        elif self._coordinator is not None:
            self._coordinator.dismiss(now=True)


def _summary(setup: Setup) -> str:
    hosts = ", ".join(setup.hosts[rank] for rank in sorted(setup.hosts))
    count = "1 rank" if len(setup.parts) == 1 else f"{len(setup.parts)} ranks"
    return f"{count} in {setup.dtype} on {hosts}"
