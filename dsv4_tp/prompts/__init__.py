"""Conversations <-> the model's own text. Knows no tokenizer, no request, no model.

The words come from the checkpoint, the rules by which they are put together and taken apart are
here (docs/prompts.md).
"""

from dsv4_tp.prompts.effort import Mode, mode_of
from dsv4_tp.prompts.encode import encode, encode_pieces
from dsv4_tp.prompts.grammar import Tokens, calls_grammar
from dsv4_tp.prompts.pieces import Piece, cut
from dsv4_tp.prompts.reading import CallArguments, CallBegun, Content, Delta, Reading, Reasoning
from dsv4_tp.prompts.table import BUILT_IN, Table, read_table
from dsv4_tp.prompts.tools import with_tools

__all__ = [
    "BUILT_IN",
    "CallArguments",
    "CallBegun",
    "Content",
    "Delta",
    "Mode",
    "Piece",
    "Reading",
    "Reasoning",
    "Table",
    "Tokens",
    "calls_grammar",
    "cut",
    "encode",
    "encode_pieces",
    "mode_of",
    "read_table",
    "with_tools",
]
