"""Options that several commands share, so that they read alike everywhere."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

import click

from dsv4_tp.cli import http_options
from dsv4_tp.config import BATCH, MOST_BATCH, MOST_DRAFTS, QUEUE, RestartPolicy
from dsv4_tp.core import MOST_STOPS, AttentionSplit, Backend, CacheRows, DType

_MOST_SEED = 2**64 - 1
_MOST_ID = 2**31
_MOST_BIAS = 100

_Texts = TypeVar("_Texts", str, tuple[str, ...])


class _Option(Protocol):
    """What click.option makes."""

    def __call__(self, command: click.decorators.FC, /) -> click.decorators.FC: ...


Check = Callable[[click.Context, click.Parameter, float | None], float | None]


def _number(holds: Callable[[float], bool], expected: str) -> Check:
    """Refuses numbers for which `holds` is false; click's own ranges take nan."""

    def check(_ctx: click.Context, _param: click.Parameter, value: float | None) -> float | None:
        if value is not None and not (math.isfinite(value) and holds(value)):
            raise click.BadParameter(f"{value} is not {expected}.")
        return value

    return check


def _are_texts(_ctx: click.Context, _param: click.Parameter, value: _Texts) -> _Texts:
    """Refuses bytes that are no UTF-8, which Python hands over as lone surrogates."""
    try:
        "".join(value).encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter("it is not UTF-8.") from error
    return value


def _are_stops(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    if "" in values:
        raise click.BadParameter("it is empty; no text would ever begin.")
    if len(values) > MOST_STOPS:
        raise click.BadParameter(f"given {len(values)} times; at most {MOST_STOPS} are possible.")
    return _are_texts(ctx, param, values)


def _biases(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> dict[int, float] | None:
    """ID=VALUE texts, by id; None if there are none."""
    biases: dict[int, float] = {}
    for text in values:
        token, _, value = text.partition("=")
        if not (token.isascii() and token.isdigit() and int(token) < _MOST_ID):
            raise click.BadParameter(f"{text!r}: expected ID=VALUE with the id of a token.")
        if int(token) in biases:
            raise click.BadParameter(f"{text!r}: token {int(token)} has one already.")
        biases[int(token)] = _bias(text, value)
    return biases or None


def _bias(text: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not -_MOST_BIAS <= number <= _MOST_BIAS:
        raise click.BadParameter(f"{text!r}: the value must be a number from -100 to 100.")
    return number


def _whole(_ctx: click.Context, _param: click.Parameter, file: Path | None) -> str | None:
    """What is in the file."""
    try:
        return None if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{file}: {error}.") from error


_not_negative = _number(lambda value: value >= 0, "a number, 0 or more")
positive = _number(lambda value: value > 0, "a number above 0")
_fraction = _number(lambda value: 0 < value <= 1, "a number above 0, at most 1")
_share = _number(lambda value: 0 <= value <= 1, "a number from 0 to 1")
_small = _number(lambda value: -2 <= value <= 2, "a number from -2 to 2")

model = click.option("--model", metavar="DIR", help="Checkpoint's directory, or `demo`.")
hosts = click.option("--hosts", metavar="A,B", help="One rank on each; localhost may repeat.")
file = click.option(
    "-f", "--file", metavar="FILE", type=click.Path(path_type=Path), help="Long form of --hosts."
)
dtype = click.option(
    "--dtype",
    type=click.Choice(["auto", *(dtype.value for dtype in DType)]),
    help="Of activations. auto: float32 on CPU, else the checkpoint's.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on one line.")
as_json_lines = click.option("--json", "as_json", is_flag=True, help="Print one object per line.")
follow = click.option(
    "-f", "--follow", is_flag=True, help="Go on with what comes, until the cluster has ended."
)
name = click.option("--name", help="Of the cluster, if several run.")
prompt = click.option(
    "--prompt",
    metavar="TEXT",
    required=True,
    callback=_are_texts,
    help="Text to continue, put after BOS.",
)
address = click.option("--address", metavar="HOST:PORT", help="Of a cluster launched elsewhere.")
context = click.option(
    "--context",
    type=click.IntRange(1),
    metavar="N",
    help="Most tokens of prompt and answer. Default: the model's, or what fits.",
)
batch = click.option(
    "--batch",
    type=click.IntRange(1, MOST_BATCH),
    metavar="N",
    help=f"Most requests at a time; default {BATCH}.",
)
mtp = click.option(
    "--mtp",
    type=click.IntRange(0, MOST_DRAFTS),
    is_flag=False,
    flag_value=MOST_DRAFTS,
    metavar="[N]",
    help=f"Draft at most N tokens ahead where that is faster; alone: {MOST_DRAFTS}; 0: none.",
)
queue = click.option(
    "--queue",
    type=click.IntRange(0),
    metavar="N",
    help=f"Most requests that wait, more are refused; default {QUEUE}.",
)
cache_rows = click.option(
    "--cache-rows",
    type=click.Choice([rows.value for rows in CacheRows]),
    help="Rows of the caches: exact, or as the model was trained to see them, in half the memory.",
)
attention = click.option(
    "--attention",
    type=click.Choice([split.value for split in AttentionSplit]),
    help="split: by heads; whole: all of it on each rank, which saves a sum in each layer.",
)
prefix_cache = click.option(
    "--prefix-cache-gb",
    type=float,
    metavar="GB",
    callback=_not_negative,
    help="Per rank, for prompts that begin alike; 0: off. Default: one context's, at most 2.",
)

backend = click.option(
    "--backend",
    type=click.Choice([backend.value for backend in Backend]),
    help="What joins the ranks: TCP, or RDMA over Thunderbolt, which no Mac has proven yet.",
)

restart = click.option(
    "--restart",
    type=click.Choice([policy.value for policy in RestartPolicy]),
    help="After a rank or a host was lost; on-failure: start again, go on.",
)


def cluster(command: click.decorators.FC) -> click.decorators.FC:
    """What to launch, and maybe texts to generate at once."""
    own_name = click.option("--name", help="Of the cluster, to tell it from others.")
    prompts = click.option(
        "--prompt",
        metavar="TEXT",
        multiple=True,
        callback=_are_texts,
        help="Text to continue, put after BOS; may be given several times.",
    )
    on_disk = click.option(
        "--prefix-cache-on-disk", is_flag=True, help="Keep it for the next launch, too."
    )
    running = (restart, on_disk, prefix_cache, cache_rows, mtp, queue, batch, dtype, context)
    where = (attention, backend, file, hosts, model)
    for option in (as_json, sampling, prompts, own_name, *http_options.ALL, *running, *where):
        command = option(command)
    return command


def shares(command: click.decorators.FC) -> click.decorators.FC:
    """How a model is to be shared out."""
    ranks = click.option("--ranks", type=click.IntRange(1), metavar="N", help="N equal ranks.")
    split = click.option("--split", metavar="3:5", help="Ranks with shares in this proportion.")
    for option in (file, hosts, split, ranks):
        command = option(command)
    return command


def sampling(command: click.decorators.FC) -> click.decorators.FC:
    """How to continue it."""
    chat = click.option("--chat", is_flag=True, help="The prompt is one user turn of a chat.")
    return chat(usual_sampling(_further(command)))


def usual_sampling(command: click.decorators.FC) -> click.decorators.FC:
    """What is asked for most often."""
    options = (
        click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="At most so many."),
        _real("--temperature", "T", _not_negative, "0: greedy."),
        _real("--top-p", "P", _fraction, "Nucleus; 1: off."),
        click.option("--top-k", type=click.IntRange(0), metavar="K", help="0: off."),
        click.option("--seed", type=click.IntRange(0, _MOST_SEED), metavar="S", help="Of chance."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _further(command: click.decorators.FC) -> click.decorators.FC:
    """What is asked for less often; docs/sampling.md says what each does."""
    options = (
        _real("--min-p", "P", _share, "Of the likeliest token's probability; 0: off."),
        _real("--repetition-penalty", "R", positive, "Of tokens seen before; 1: off."),
        _real("--presence-penalty", "A", _small, "Of tokens generated before; 0: off."),
        _real("--frequency-penalty", "A", _small, "For each time they were; 0: off."),
        click.option(
            "--logit-bias",
            metavar="ID=VALUE",
            multiple=True,
            callback=_biases,
            help="Makes a token likelier, or rarer; may be repeated.",
        ),
        click.option(
            "--logprobs",
            type=click.IntRange(0, 20),
            metavar="N",
            help="With --json: log-probabilities, and N alternatives to each token.",
        ),
    )
    command = _bounds(command)
    for option in reversed(options):
        command = option(command)
    return command


def _bounds(command: click.decorators.FC) -> click.decorators.FC:
    """What ends the text, and what it must look like."""
    options = (
        click.option(
            "--stop",
            metavar="TEXT",
            multiple=True,
            callback=_are_stops,
            help="End before this text; may be repeated.",
        ),
        click.option(
            "--stop-id",
            "stop_ids",
            metavar="ID",
            multiple=True,
            type=click.IntRange(0, _MOST_ID - 1),
            help="End at this token, too; may be repeated.",
        ),
        click.option(
            "--json-schema",
            metavar="FILE",
            type=click.Path(path_type=Path),
            callback=_whole,
            help="The text is JSON that validates against it.",
        ),
        click.option(
            "--time-limit",
            "time_limit_s",
            type=float,
            metavar="SECONDS",
            callback=positive,
            help="End by then, waiting included. Default: the cluster's, if it has one.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _real(name: str, metavar: str, check: Check, text: str) -> _Option:
    return click.option(name, type=float, metavar=metavar, callback=check, help=text)
