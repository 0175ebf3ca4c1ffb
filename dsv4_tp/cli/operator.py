"""The commands for whoever keeps a cluster running; a part of `commands`."""

from pathlib import Path
from typing import Any

import click

from dsv4_tp.cli import options

_every = click.option(
    "--every",
    "every_s",
    type=float,
    default=1.0,
    metavar="SECONDS",
    callback=options.positive,
    help="Between two looks; default 1.",
)


@click.command()
@options.name
@options.address
@click.option("--watch", is_flag=True, help="Again and again, until Ctrl-C.")
@_every
@options.as_json
def status(**given: Any) -> None:
    """Show a running cluster.

    Hosts, ranks, phases, memory against the plan, and what has been counted.
    """
    from dsv4_tp.cli.status import run

    run(**given)


@click.command()
@options.name
@options.address
@_every
@click.option("--count", type=click.IntRange(1), metavar="N", help="Only so many times.")
@options.as_json_lines
def top(**given: Any) -> None:
    """Show how fast a cluster works, now.

    Tokens per second, requests that run and wait, the time to the first token; for each rank its
    phase, its pace, since when it has not moved, and its memory.
    """
    from dsv4_tp.cli.top import run

    run(**given)


@click.command()
@options.name
@options.address
@click.option("--batches", metavar="1,4", help="Requests at a time; default 1,2,4,8 as far as may.")
@click.option("--prompts", metavar="128,1024", help="Tokens of each prompt; this is the default.")
@click.option(
    "--tokens", type=click.IntRange(2), default=64, metavar="N", help="Of each text; default 64."
)
@click.option(
    "--rounds", type=click.IntRange(1), default=3, metavar="N", help="Of each; default 3."
)
@click.option("--bandwidth", metavar="A,B", help="GB/s by host, measured; for the roofline.")
@options.as_json
def bench(**given: Any) -> None:
    """Measure how fast a running cluster is.

    Prefill and decode in tokens per second, and the time to the first token, for each number of
    requests at a time and each length of prompts; beside them the bytes that a rank reads for a
    step and, with --bandwidth, what that would allow. On a cluster that has nothing else to do.
    """
    from dsv4_tp.cli.bench.run import run

    run(**given)


@click.command()
@options.name
@options.address
@click.option("--since", type=click.IntRange(0), default=0, metavar="SEQ", help="After this one.")
@options.follow
@options.as_json_lines
def events(**given: Any) -> None:
    """Show what happened to a cluster.

    Epochs, ranks and hosts that came and went, with the evidence; requests that failed. For a
    cluster that is down, those of its last launch.
    """
    from dsv4_tp.cli.events import run

    run(**given)


@click.command()
@options.name
@options.address
@click.option("--host", metavar="H", help="Only this host's.")
@click.option("--rank", type=click.IntRange(0), metavar="R", help="Only this rank's.")
@click.option("--epoch", type=click.IntRange(1), metavar="E", help="Only of this epoch.")
@options.follow
@options.as_json_lines
def logs(**given: Any) -> None:
    """Show what agents and ranks wrote.

    Of all hosts, each line with its host, rank and epoch. For a cluster that is down, what lies on
    this machine of its last launch.
    """
    from dsv4_tp.cli.logs import run

    run(**given)


@click.command()
@options.name
@options.address
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    metavar="SECONDS",
    callback=options.positive,
    help="For what runs and waits; default 45.",
)
@options.as_json
def drain(**given: Any) -> None:
    """Let a cluster finish its work, then stop it.

    Takes no more requests. Ends with code 0 only if all that were taken have been finished.
    """
    from dsv4_tp.cli.down import drain as run

    run(**given)


@click.command()
@options.name
@options.address
@options.as_json
def restart(**given: Any) -> None:
    """Start all ranks of a cluster anew.

    Another epoch, in which the texts that are being made go on: their clients only wait. Returns
    when it serves. A cluster that waits to recover does so at once.
    """
    from dsv4_tp.cli.restart import run

    run(**given)


@click.command()
@options.name
@options.address
@click.option("--force", is_flag=True, help="Finish nothing.")
@options.as_json
def down(**given: Any) -> None:
    """Stop a running cluster.

    Returns when its ranks and agents are gone; a text that is being made is finished first. Shows
    what each host has back.
    """
    from dsv4_tp.cli.down import run

    run(**given)


@click.command()
@options.name
@options.address
@click.option(
    "-o",
    "--out",
    metavar="FILE.tar.gz",
    type=click.Path(path_type=Path),
    help="Default: named after the launch, in this directory.",
)
@options.as_json
def debug_bundle(**given: Any) -> None:
    """Collect what explains a failure.

    One file: what was launched, status, events, the last of all hosts' logs, without secrets. Also
    for a cluster that is down, and with hosts that do not answer, which it names.
    """
    from dsv4_tp.cli.bundle import run

    run(**given)


OPERATORS_TOOLS = (status, top, bench, events, logs, drain, restart, down, debug_bundle)
