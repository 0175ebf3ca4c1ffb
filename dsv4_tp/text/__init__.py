"""Words to token ids and back, by the checkpoint's own tokenizer. Knows no request, no model."""

from dsv4_tp.text.defaults import Defaults, read_defaults
from dsv4_tp.text.detokenizer import Detokenizer
from dsv4_tp.text.stops import Stops
from dsv4_tp.text.text import NO_THOUGHT, Text

__all__ = ["NO_THOUGHT", "Defaults", "Detokenizer", "Stops", "Text", "read_defaults"]
