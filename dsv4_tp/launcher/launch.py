"""The whole life of a cluster, in the order it happens."""

import asyncio
import signal
import time
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from dsv4_tp import demo
from dsv4_tp.config import ClusterConfig
from dsv4_tp.config.environment import state_dir
from dsv4_tp.config.rdma import given_rdma
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.coordinator.setup import Setup
from dsv4_tp.core import DType
from dsv4_tp.errors import Dsv4Error, OutrankedError
from dsv4_tp.history import launch_folder, name_of, new_launch, open_launch
from dsv4_tp.launcher.agents import Agent, end_agents, start_agents
from dsv4_tp.launcher.authority import Authority, authority_of
from dsv4_tp.launcher.crew import Crew, Staff
from dsv4_tp.launcher.preflight import (
    Facts,
    check_hosts,
    check_quarantine,
    data_ips,
    dtype_of,
    inspect_hosts,
    rooms_of,
    with_backend,
)
from dsv4_tp.launcher.record import Known, Record, digest_of, read_record, write_record
from dsv4_tp.launcher.remember import remember
from dsv4_tp.launcher.report import Report, Watch, summary
from dsv4_tp.launcher.serve import Job, Tell, run_beside, served
from dsv4_tp.launcher.takeover import Others
from dsv4_tp.launcher.verify import verify_hosts
from dsv4_tp.layouts import Catalog
from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan import Plan, Replan, Room, make_plan, sized
from dsv4_tp.prepared import model_fingerprint
from dsv4_tp.rpc.auth import Identity
from dsv4_tp.rpc.registry import record_file, registered
from dsv4_tp.rpc.server import LOOPBACK, local_server
from dsv4_tp.serving.door import Door, door

_T = TypeVar("_T")

_ALONE = "a launch with a prompt has a cluster of its own"
_OTHER = "other hosts, settings, files or version than its ranks have"


def launch(
    config: ClusterConfig,
    spec: ModelSpec,
    catalog: Catalog,
    *,
    job: Job[_T] | None = None,
    tell: Tell,
    on_loaded: Watch | None = None,
) -> _T | None:
    """Run a cluster for as long as `job` takes; see the package for the whole promise."""
    try:
        return asyncio.run(_Launch(config, spec, catalog, tell).run(job, on_loaded))
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
        self._checkpoint = ""  # which one lies there
        self._coordinator: Coordinator | None = None
        self._interrupted = False

    async def run(self, job: Job[_T] | None, on_loaded: Watch | None) -> _T | None:
        """What can be refused without a host is refused before any is touched."""
        self._catch_signals()
        self._replan(None)(self._config.weights)
        given_rdma(self._config)
        self._checkpoint = model_fingerprint(self._model_dir)
        prompts = Prompts(self._model_dir, self._spec)
        server, port = local_server(self._config.ports.control or 0)
        address = f"{LOOPBACK}:{port}"
        with (
            self._door(job is None) as way_in,
            registered(state_dir(), name=self._config.name, address=address) as entry,
        ):
            found = await self._take_over(entry.name, wanted=job is None)
            launch = found.setup.history.name if found else new_launch(entry.name, time.time())
            async with (
                self._staff(found, entry.name, launch) as staff,
                served(server, staff, prompts, way_in) as self._coordinator,
            ):
                self._tell(f"{entry.name} at {address}: {summary(staff.setup)}")
                if way_in:
                    self._tell(f"openai endpoint: {way_in.url}, model {staff.setup.model_name}")
                    self._tell(f"page: {way_in.page}")
                report = Report(self._coordinator, self._tell, on_loaded)
                return await run_beside(self._coordinator, job, address, report)

    @contextmanager
    def _door(self, wanted: bool) -> Generator[Door | None]:
        """Where HTTP comes in, if anybody may: a job has its cluster to itself."""
        if not wanted:
            yield None
            return
        with door(self._config.http) as found:
            yield found

    @asynccontextmanager
    async def _staff(self, found: Staff | None, name: str, launch: str) -> AsyncGenerator[Staff]:
        """Those that were found, or new agents, found fit.

        The coordinator ends them, and we see them gone, unless they are another's by then.
        """
        with open_launch(state_dir(), launch) as history:
            staff = found or await self._start(name, history)
            ours = True
            try:
                yield staff
            except OutrankedError:
                ours = False
                raise
            finally:
                if ours:
                    await staff.crew.reap()
                    record_file(state_dir(), name).unlink(missing_ok=True)

    async def _take_over(self, name: str, *, wanted: bool) -> Staff | None:
        """What a coordinator of this name that was killed has left, if all is as it was.

        If it is not, or not `wanted`, what is left of it is ended.
        """
        file = record_file(state_dir(), name)
        if (record := read_record(file)) is None:
            return None
        authority, turn = authority_of(state_dir(), name), record.turn + 1
        agents = [known.agent(authority.coordinator()) for known in record.agents]
        lines: list[str] = []
        staff = self._as_recorded(record, agents, authority, lines.append) if wanted else _ALONE
        others = Others(agents, turn, record.fence_s)
        if isinstance(staff, str):
            adoption = await others.end(staff, self._tell)
        else:
            self._record(file, staff, turn)  # first, for agents obey no turn twice
            adoption = await others.take_over(staff.setup.hosts, self._tell)
        if isinstance(staff, str) or isinstance(adoption, str):
            self._tell(f"the last launch was killed; nothing is taken over: {adoption}")
            file.unlink(missing_ok=True)
            return None
        for line in lines:
            self._tell(line)
        self._tell(f"took over {adoption.count} of epoch {adoption.epoch}")
        return replace(staff, adoption=adoption)

    def _as_recorded(
        self, record: Record, agents: Sequence[Agent], authority: Authority, tell: Tell
    ) -> Staff | str:
        """These agents, if this launch would start just what runs there; else why not."""
        if tuple(agent.host for agent in agents) != self._config.hosts:
            return _OTHER
        history = launch_folder(state_dir(), record.launch)
        try:
            staff, _ = self._settle(agents, authority, record.facts, history, tell)
        except Dsv4Error as error:  # a refusal, if at all, is for what is found today
            return str(error)
        return staff if record.digest == self._digest(staff.setup) else _OTHER

    async def _start(self, name: str, history: Path) -> Staff:
        authority = authority_of(state_dir(), name)
        start_s = self._config.timeouts.start_s
        agents = await start_agents(self._config.hosts, authority, start_s=start_s)
        try:
            facts = await inspect_hosts(agents, self._config, data_ips(agents))
            check_quarantine(facts)
            staff, plan = self._settle(agents, authority, facts, history, self._tell)
            staff.crew.check()
            await verify_hosts(agents, self._config, plan.parts, self._tell)
            remember(history, self._config, plan, facts)
            self._record(record_file(state_dir(), name), staff, 0)
        except BaseException:
            await end_agents(agents)
            raise
        return staff

    def _settle(
        self, agents: Sequence[Agent], authority: Authority, facts: Facts, history: Path, tell: Tell
    ) -> tuple[Staff, Plan]:
        """What follows from the facts of all hosts: dtype, plan, what joins the ranks."""
        config = with_backend(self._config, facts, tell)
        dtype = dtype_of(config, facts, torch_dtype=self._spec.torch_dtype)
        replan = self._replan(dtype)
        plan = self._sized(replan(config.weights), rooms_of(config, facts), tell)
        check = partial(check_hosts, config, plan=plan, replan=replan)
        crew = Crew(config, authority, agents, facts, check)
        setup = self._setup(crew, plan, dtype, authority.coordinator(), history)
        return Staff(replace(setup, backend=config.backend), crew), plan

    def _digest(self, setup: Setup) -> str:
        return digest_of(setup, self._config.hosts, self._checkpoint)

    def _record(self, file: Path, staff: Staff, turn: int) -> None:
        """Leave word of the agents, such as they are now and will be; the rest stays as it is."""
        launch, digest = staff.setup.history.name, self._digest(staff.setup)
        facts = staff.crew.facts  # those of an agent that comes later were not planned with

        def write(agents: Sequence[Agent]) -> None:
            known, fence_s = tuple(map(Known.of, agents)), staff.setup.timeouts.fence_s
            write_record(file, Record(launch, turn, digest, known, fence_s, facts))

        staff.crew.tell(write)

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
            backend=config.backend,
            rdma=given_rdma(config),
            prefill_chunk=plan.chunk,
            context=plan.context,
            cache_rows=plan.cache_rows,
            kernels=config.kernels,
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

    def _sized(self, plan: Plan, rooms: Sequence[Room], tell: Tell) -> Plan:
        """What was not asked for is as large as fits."""
        config, most = self._config, plan.context
        plan = sized(plan, rooms, context=config.context, chunk=config.prefill_chunk)
        if plan.context < most:
            tell(f"context: {plan.context} tokens, of the model's {most}, fit into memory here")
        return plan

    def _replan(self, dtype: DType | None) -> Replan:
        """The plan of this launch, of the weights it is given."""
        config = self._config
        return partial(
            make_plan,
            self._spec,
            self._catalog,
            expert_split=config.experts,
            attention=config.attention,
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
