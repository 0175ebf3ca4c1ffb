"""The commands and their options. What does the work is imported only when a command runs.

So every help page is instant, and `plan` runs where MLX is not installed.
"""

import sys
from pathlib import Path
from typing import Any

import click

from dsv4_tp.cli import options
from dsv4_tp.cli.chat.talk import Think
from dsv4_tp.cli.exits import exit_table
from dsv4_tp.cli.operator import OPERATORS_TOOLS
from dsv4_tp.cli.plan_options import plan_options
from dsv4_tp.cli.processes import PROCESSES

_PATH = click.Path(path_type=Path)


class _InOrder(click.Group):
    """Lists its commands in the order in which they are written here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(self.commands)


def _show_versions(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from dsv4_tp.cli.versions import version_page

        click.echo(version_page())
        ctx.exit()


@click.group(
    cls=_InOrder,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=f"Exit codes: {exit_table()}.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show what is installed, and leave.",
)
def cli() -> None:
    """DeepSeek-V4 over several Macs as one machine."""


for _process in PROCESSES:
    cli.add_command(_process)


@cli.command()
@options.cluster
def launch(**_: Any) -> None:
    """Start a cluster and serve it, or generate and leave.

    It serves until `dsv4-tp down` or Ctrl-C; with --prompt it continues each text once, in the
    order given, and leaves.
    Without --hosts and -f it reads ./cluster.yaml.
    """
    from dsv4_tp.config.environment import become

    # The options are sound. The process that serves is to be seen as what it is.
    become("coordinator", *sys.argv[2:])


@cli.command(hidden=True)
@options.cluster
def coordinator(**given: Any) -> None:
    """Launch a cluster and be its coordinator; `launch` becomes this."""
    from dsv4_tp.cli.launch import run

    run(**given)


@cli.command()
@click.option("--model", metavar="PATH", help="Checkpoint, bare config.json, or `demo`.")
@options.shares
@options.context
@options.batch
@options.mtp
@options.cache_rows
@options.prefix_cache
@options.attention
@plan_options
@options.as_json
def plan(**given: Any) -> None:
    """Show what each rank will need, in bytes.

    Without --hosts, the model or the ranks that are not given come from ./cluster.yaml.
    With --memory it ends with code 2 if the plan does not fit, and says what would; if nothing
    else says how many ranks, there is one for each memory, and the split is proposed.
    """
    from dsv4_tp.cli.plan import run

    run(**given)


@cli.command()
@click.argument("model", metavar="DIR")
@options.as_json
def inspect(**given: Any) -> None:
    """Show what a checkpoint is: layout, formats, bytes.

    DIR is a checkpoint's directory, or `demo`. Also shows what predicts further tokens, what
    would be left out and why. Ends with code 2 if it could not be loaded, and says what is missing
    or wrong.
    """
    from dsv4_tp.cli.inspect import run

    run(**given)


@cli.command()
@options.model
@click.option(
    "--out", metavar="DIR", required=True, type=_PATH, help="Where the set is to be; may be begun."
)
@options.shares
@options.attention
@click.option(
    "--rank",
    "only",
    metavar="R",
    multiple=True,
    type=click.IntRange(0),
    help="Only this rank's files; may be repeated.",
)
@options.as_json
def shard(**given: Any) -> None:
    """Sort a checkpoint's bytes by rank, once.

    Writes a prepared set: files in which each rank finds its own bytes and nothing else. It goes
    wherever a checkpoint goes (--model, cluster.yaml), for launches with the same shares. When it
    is interrupted, the same command goes on from the last finished file.
    """
    from dsv4_tp.cli.shard import run

    run(**given)


@cli.command()
@options.model
@click.option(
    "--out", metavar="DIR", required=True, type=_PATH, help="On every host; may be begun."
)
@options.hosts
@options.file
@options.attention
@options.as_json
def push(**given: Any) -> None:
    """Send each host the weights of its own ranks.

    Makes DIR, on every host, the prepared set that `shard` would make here, with the files of that
    host's ranks only. The model is a checkpoint on this machine, or a set for the same shares.
    When it is interrupted, the same command goes on from the last finished file.
    """
    from dsv4_tp.cli.push import run

    run(**given)


@cli.command()
@options.model
@options.hosts
@options.file
@click.option("--host", metavar="NAME", help="Show only what concerns this host.")
@click.option(
    "--record", metavar="DIR", type=_PATH, help="Keep what each Mac's tools printed, there."
)
@options.backend
@options.as_json
def doctor(**given: Any) -> None:
    """Find what keeps a cluster from running, and what to type.

    Looks at every host by ssh, changes nothing, and at last lets the hosts' interpreters meet
    as ranks would, unless a cluster runs there. Ends with code 1 if something fails; warnings do
    not count.
    """
    from dsv4_tp.cli.doctor import run

    run(**given)


@cli.group()
def hostfile() -> None:
    """Translate MLX's hostfiles.

    What the other format has no word for is named on stderr.
    """


@hostfile.command("import")
@click.argument("source", metavar="FILE", type=_PATH)
@click.option("--model", metavar="DIR", default="demo", help="Checkpoint's directory, or `demo`.")
def import_hostfile(**given: Any) -> None:
    """Print cluster.yaml for the hosts of a hostfile."""
    from dsv4_tp.cli.hostfile import import_from

    import_from(**given)


@hostfile.command("export")
@options.hosts
@options.file
@click.option(
    "--rdma", is_flag=True, help="Look at the Macs' cables, and write the matrix of devices."
)
def export_hostfile(**given: Any) -> None:
    """Print the hostfile of a cluster."""
    from dsv4_tp.cli.hostfile import export_to

    export_to(**given)


@cli.command()
@options.name
@options.address
@options.prompt
@options.sampling
@options.mtp
@options.as_json
def generate(**given: Any) -> None:
    """Continue a text on a running cluster.

    What is not given is taken from the checkpoint's generation_config.json.
    """
    from dsv4_tp.cli.generate import run

    run(**given)


@cli.command()
@options.name
@options.address
@click.option("--system", metavar="TEXT", help="What the model is told before all else.")
@click.option(
    "--think",
    type=click.Choice([*map(str, Think)]),
    default=str(Think.ON),
    help="Whether it thinks before it answers, and how much.",
)
@options.usual_sampling
@options.as_json_lines
def chat(**given: Any) -> None:
    """Talk with a running cluster.

    On a terminal, with what was typed before, /help for what else can be typed, and Ctrl-C to stop
    an answer. Elsewhere each line of stdin is a turn, and stdout has the answers alone.
    """
    from dsv4_tp.cli.chat.run import run

    run(**given)


@cli.command()
@options.model
@click.option(
    "--tokens",
    metavar="FILE.json",
    required=True,
    type=_PATH,
    help="JSON list of equally long lists of token ids, used as given.",
)
@click.option("--chunk", type=click.IntRange(1), metavar="N", help="Feed so many tokens at a time.")
@click.option(
    "--logits", metavar="OUT.npz", type=_PATH, help="Write `logits` [B, L, vocabulary] there."
)
@options.hosts
@options.file
@options.dtype
def score(**given: Any) -> None:
    """Print log-probabilities of given token ids.

    One JSON line with `nll`: for each row the mean over its ids but the first, in nats per
    token. Without --hosts and -f it runs in this process, on one device.
    """
    from dsv4_tp.cli.score import run

    run(**given)


for _tool in OPERATORS_TOOLS:
    cli.add_command(_tool)
