"""Texts held to a JSON schema: which tokens may come next. Knows no array of a model and no rank.

The grammar is llguidance's (decision 0018); everything that is known of that library is here.
"""

from dsv4_tp.guides.check import check_schema
from dsv4_tp.guides.guide import Guide
from dsv4_tp.guides.vocabulary import Vocabulary, tokenizer_digest

__all__ = ["Guide", "Vocabulary", "check_schema", "tokenizer_digest"]
