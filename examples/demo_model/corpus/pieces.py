"""The pieces that a text is cut into: what the tokenizer makes one token of, if it is a word."""

import re

_PIECE = re.compile(
    r"<｜[^｜]+｜>|</?think>|｜DSML｜|[0-9]|'(?:s|t|re|ve|m|ll|d)"
    r"| ?[A-Za-z]+| ?[^\sA-Za-z0-9<｜]+| ?<(?![｜t])| ?<(?=t(?!hink>))|<(?=｜DSML)|\s+(?!\S)|\s"
)


def pieces(text: str) -> list[str]:
    """The text cut up; the pieces together are the text."""
    return _PIECE.findall(text)


def count(text: str) -> int:
    """About how many tokens the text has."""
    return len(pieces(text))
