"""The command's way in and out: runs it, and turns every known error into one line."""

import sys
from typing import NoReturn

import click

from dsv4_tp.cli.commands import cli
from dsv4_tp.cli.exits import Exit
from dsv4_tp.errors import Dsv4Error


def main() -> NoReturn:
    """Run the command of this process and leave with its exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; its exit code."""
    try:
        cli.main(arguments, prog_name="dsv4-tp", standalone_mode=False)
    except Dsv4Error as error:
        return _refuse(str(error), error.exit_code)
    except click.ClickException as error:
        return _refuse(error.format_message() + _help_hint(error), Exit.REFUSED)
    except OSError as error:
        return _refuse(str(error), Exit.FAILED)  # such as a full disk; names the file
    except (KeyboardInterrupt, click.Abort):
        return _refuse("interrupted", Exit.INTERRUPTED)
    return Exit.DONE


def _help_hint(error: click.ClickException) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    return f" See {context.command_path} --help" if context else ""


def _refuse(message: str, code: int) -> int:
    # One error is one line, whatever a library put into its message.
    print("dsv4-tp: error:", " ".join(message.split()), file=sys.stderr, flush=True)
    return code
