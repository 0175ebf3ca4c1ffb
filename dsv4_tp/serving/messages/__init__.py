"""Anthropic's Messages: what is asked in its words, and what is answered."""

from dsv4_tp.serving.messages.answer import Telling
from dsv4_tp.serving.messages.request import Counted, MessageRequest, parse, parse_count

__all__ = ["Counted", "MessageRequest", "Telling", "parse", "parse_count"]
