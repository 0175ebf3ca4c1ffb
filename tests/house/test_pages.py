"""What the pages tell users to type or to look for is there."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest
import yaml

from dsv4_tp.cli.commands import cli
from dsv4_tp.config import read_cluster

ROOT = Path(__file__).parents[2]
PAGES = [
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "mlx-lm.md"),  # others'
    *(ROOT / "README.md", ROOT / "launch/README.md"),
]
SYMPTOMS = ROOT / "docs/symptoms.md"
PREPARE_HOST = (ROOT / "launch/prepare-host.sh").read_text(encoding="utf-8")
ANY = "..."  # in a quoted message: what differs
LEAST = 12  # characters of a message that are fixed; less would be found anywhere

NAMES = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code(page: Path) -> Iterator[str]:
    """What is code on a page: lines of blocks, joined where they go on, and spans."""
    blocks = re.findall(r"^ *```\w*\n(.*?)^ *```", text(page), flags=re.DOTALL | re.MULTILINE)
    blocks += re.findall(r"^(?:    .*\n)+", text(page), flags=re.MULTILINE)
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    rest = re.sub(r"^ *```.*?^ *```", "", text(page), flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest))


def words(line: str) -> list[str]:
    """Those of one command, without what is quoted, what follows it, and the signs of optional."""
    alone = re.split(r"[|;&>#)]", re.sub(r"\"[^\"]*\"|'[^']*'", "TEXT", line))[0]
    return alone.replace("[", " ").replace("]", " ").split()


def resolved(given: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and what is left of them."""
    command: click.Command = cli
    while isinstance(command, click.Group) and given and not given[0].startswith("-"):
        command, given = command.commands[given[0]], given[1:]
    return command, given


def options(command: click.Command) -> set[str]:
    named = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    return named | {"-h", "--help"}


@cache
def all_options() -> frozenset[str]:
    """Of our commands, and of the script that prepares a host."""
    groups = [command for command in cli.commands.values() if isinstance(command, click.Group)]
    every = [cli, *cli.commands.values(), *(each for g in groups for each in g.commands.values())]
    return frozenset({*re.findall(r"--[a-z-]+", PREPARE_HOST)}.union(*map(options, every)))


def unknown(line: str) -> list[str]:
    """What in a line of code no command of ours has."""
    odd: list[str] = []
    for given in re.findall(r"(?:^|[|;&] |\bdo )(?:\S*/)?dsv4-tp +(?!COMMAND)(.+)", line.strip()):
        try:
            command, rest = resolved(words(given))
        except KeyError:
            return [f"dsv4-tp {given}"]
        odd += [each for each in flags(rest) if each not in options(command)]
    if line.startswith("--"):
        odd += [each for each in flags(words(line)) if each not in all_options()]
    if line.split(" ")[0] in cli.commands:
        command, rest = resolved(words(line))
        odd += [each for each in flags(rest) if each not in options(command)]
    return odd


def flags(given: list[str]) -> list[str]:
    return [each.partition("=")[0] for each in given if re.match(r"--?[a-z]", each)]


@NAMES
def test_commands_and_options_exist(page: Path):
    assert [(line, odd) for line in code(page) if (odd := unknown(line))] == []


def test_what_does_not_exist_is_found():
    assert unknown(".venv/bin/dsv4-tp lunch -f a.yaml")
    assert unknown("sleep 1; dsv4-tp drain --timeout 5 --force") == ["--force"]
    assert unknown("hostfile export --rmda") == ["--rmda"]
    assert unknown("--api-key FILE") == ["--api-key"]
    assert not unknown('dsv4-tp launch --prompt "--nothing" | grep --colour x')


@cache
def said() -> tuple[str, ...]:
    """All texts in our source that are no docstrings, and the lines of our scripts."""
    found = [PREPARE_HOST, (ROOT / "Makefile").read_text(encoding="utf-8")]
    for file in sorted((ROOT / "dsv4_tp").rglob("*.py")):
        tree = ast.parse(text(file))
        told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        nodes = (node for node in ast.walk(tree) if id(node) not in told)
        values = (node.value for node in nodes if isinstance(node, ast.Constant))
        found += [value for value in values if isinstance(value, str)]
    return tuple(found)


def fixed(message: str) -> list[str]:
    """The pieces of a quoted message that do not differ."""
    return [piece.strip() for piece in message.split(ANY) if piece.strip()]


def messages() -> list[str]:
    """Those of the first column of the tables of symptoms."""
    rows = re.findall(r"^\| (.+?) \|", text(SYMPTOMS), flags=re.MULTILINE)
    spans = [span for row in rows for span in re.findall(r"`([^`]+)`", row)]
    return [span for span in spans if " " in span and not span.startswith("dsv4-tp ")]


def unsaid(message: str) -> list[str]:
    return [piece for piece in fixed(message) if not any(piece in each for each in said())]


def test_every_message_quoted_is_one_of_ours():
    assert len(messages()) > 80
    assert [(message, odd) for message in messages() if (odd := unsaid(message))] == []


def test_every_message_quoted_can_be_told_from_others():
    short = [message for message in messages() if sum(map(len, fixed(message))) < LEAST]
    assert short == ["recovering: ...", "GB held", "GB planned"]


def test_what_nobody_says_is_found():
    assert unsaid("the ranks of this horse do not fit") != []
    assert unsaid("no ... of RDMA devices between ...") == ["of RDMA devices between"]


@NAMES
def test_metrics_exist(page: Path):
    known = {*re.findall(r"`(dsv4tp_\w+)`", text(ROOT / "docs/metrics.md"))}
    names = {*re.findall(r"dsv4tp_\w+", text(page))}
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in names} <= known


@pytest.mark.parametrize("page", ["two-macs.md", "runbook.md"])
def test_samples_are_yaml(page: str, tmp_path: Path):
    samples = re.findall(r"```yaml\n(.*?)```", text(ROOT / "docs" / page), flags=re.DOTALL)
    assert samples
    for number, sample in enumerate(samples):
        file = tmp_path / f"{number}.yaml"
        file.write_text(sample)
        if sample.startswith("version:"):
            assert len(read_cluster(file).ranks) == 2
        else:
            assert yaml.safe_load(sample)
