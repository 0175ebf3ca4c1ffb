"""The hidden commands: the processes of a cluster, so that a process list names what runs."""

from pathlib import Path

import click

_PATH = click.Path(path_type=Path)


@click.command(hidden=True)
@click.option("--bind", metavar="HOST", help="Listen there; default: where ssh reached us.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0: a free one.")
@click.option("--state-dir", type=_PATH, help="A directory of its own, removed at the end.")
@click.option("--detach", is_flag=True, help="Return when it serves.")
def agent(*, bind: str | None, port: int, state_dir: Path | None, detach: bool) -> None:
    """Be the agent of this host; a launch starts it, and tells it by stdin who it is."""
    from dsv4_tp.agent.main import run

    run(bind_host=bind, port=port, state_dir=state_dir, detach=detach)


@click.command(hidden=True)
def guard() -> None:
    """Kill the ranks of an agent that cannot; it starts this process."""
    from dsv4_tp.agent.guard import run

    run()


@click.command(hidden=True)
@click.option("--socket", type=_PATH, required=True, help="Where its agent speaks to it.")
@click.option("--progress", type=_PATH, required=True, help="Where it counts what it does.")
def worker(*, socket: Path, progress: Path) -> None:
    """Be one rank; its agent starts it."""
    from dsv4_tp.worker.main import run

    run(socket=socket, progress=progress)


@click.command(hidden=True)
def examine() -> None:
    """Answer the doctor's questions about this host; it starts this process."""
    from dsv4_tp.doctor.examiner import run

    run()


@click.command(hidden=True)
def trial() -> None:
    """Be one rank of a ring that loads no model; the doctor starts it."""
    from dsv4_tp.worker.trial import run

    run()


PROCESSES = (agent, guard, worker, examine, trial)
