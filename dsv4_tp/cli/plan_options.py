"""The options of `dsv4-tp plan` that say what the hosts have, and what is to be told of them."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import click

from dsv4_tp.cli.options import positive

_OPTIONS = (
    click.option("--memory", metavar="A,B", help="GB (10^9) that may be used, by rank or by host."),
    click.option("--bandwidth", metavar="A,B", help="GB/s, likewise; for the split proposed."),
    click.option(
        "--ledger",
        type=click.IntRange(0),
        metavar="TOKENS",
        help="Show as well what each rank reads of its memory for a token after so many others.",
    ),
    click.option(
        "--chips",
        metavar="A,B",
        help="Chips of the hosts, such as m3-ultra,m5-max: predict tokens per second.",
    ),
    click.option(
        "--link",
        type=click.Choice(("rdma", "tcp")),
        default="rdma",
        show_default=True,
        help="What joins the hosts, for --chips.",
    ),
    click.option(
        "--sum-us",
        type=float,
        metavar="US",
        callback=positive,
        help="µs that a sum takes within a step, as `doctor` measures it; for --chips.",
    ),
)


def plan_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with all of them."""
    return reduce(lambda made, option: option(made), reversed(_OPTIONS), command)
