"""A stream whose reader stands still keeps nobody waiting."""

import os
import sys
import time
from contextlib import suppress

import click
import pytest

from dsv4_tp.cli import unhurried as module
from dsv4_tp.cli.unhurried import Unhurried, unhurried


@pytest.fixture
def pipe():
    reads, writes = os.pipe()
    with os.fdopen(reads) as reader, suppress(BrokenPipeError), os.fdopen(writes, "w") as writer:
        yield reader, writer


def test_all_is_written_in_its_order(capfd):
    with unhurried():
        for number in range(1000):
            print(number, file=sys.stderr)
    assert capfd.readouterr().err == "".join(f"{number}\n" for number in range(1000))


def test_click_takes_it_for_text(capfd):
    with unhurried():
        click.echo("a line", err=True)
        click.secho("and another", err=True, bold=True)
    assert capfd.readouterr().err == "a line\nand another\n"


def test_nobody_waits_for_a_reader_and_what_is_missing_is_counted(pipe):
    reader, writer = pipe
    stream = Unhurried(writer)
    began_s = time.monotonic()
    lines = [f"{number:0100}\n" for number in range(module._MOST + 2000)]
    for line in lines:
        stream.write(line)
    stream.finish()
    assert time.monotonic() - began_s < 30, "it came back"
    # The pipe holds less than was written, and now somebody reads.
    told = []
    while not (told and told[-1].startswith("left out")):
        told.append(reader.readline())
    whole = [line for line in told[:-1] if line in set(lines)]
    assert told[:-1] == whole
    assert f"{len(lines) - len(whole)} lines" in told[-1]
    assert len(whole) < len(lines)


def test_who_has_left_harms_nobody(pipe):
    reader, writer = pipe
    stream = Unhurried(writer)
    reader.close()
    stream.write("x" * 10**6)
    stream.write("y")
    stream.finish()


def test_what_the_stream_is_can_be_asked(pipe):
    reader, writer = pipe
    stream = Unhurried(writer)
    assert (stream.isatty(), stream.encoding) == (writer.isatty(), writer.encoding)
    stream.finish()
    reader.close()
