"""What people read: notes on stderr, and tables with aligned columns."""

from collections.abc import Sequence

import click

GB = 1e9


def note(line: str) -> None:
    """One line beside the answer, which has stdout to itself."""
    click.echo(line, err=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The rows under their head, two spaces apart; the first column to the left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(_line(row, widths) for row in (head, *rows))


def left_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of words, two spaces apart, all columns to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in rows)
    return "\n".join("  ".join(row).rstrip() for row in cells)


def gigabytes(count: int) -> str:
    """Bytes in GB (10^9), with as many digits as a small model needs."""
    return f"{count / GB:.2f}" if count >= GB else f"{count / GB:.4f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(row, widths, strict=True)
    cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(cells).rstrip()
