"""Texts held to a form: which tokens may come next. Knows no array of a model and no rank.

A form is a JSON schema, or a grammar in the library's form of Lark. The library is llguidance
(decision 0018); everything that is known of that library is here.
"""

from dsv4_tp.guides.check import check_form
from dsv4_tp.guides.guide import Guide
from dsv4_tp.guides.vocabulary import Vocabulary, tokenizer_digest

__all__ = ["Guide", "Vocabulary", "check_form", "tokenizer_digest"]
