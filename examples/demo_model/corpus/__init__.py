"""The text that the demo model is trained and measured on: all of it generated, all of it seeded.

A kind of text per module: `stories`, `sums`, `retrieval` (lists and look-ups), `chat`, `tools`.
"""

from examples.demo_model.corpus.documents import Tokenize, document, sequence
from examples.demo_model.corpus.lookups import Lookup, lookup
from examples.demo_model.corpus.seeds import rng_for
from examples.demo_model.corpus.words import words

__all__ = ["Lookup", "Tokenize", "document", "lookup", "rng_for", "sequence", "words"]
