"""OpenAI's Responses: what is asked in its words, and what is answered."""

from dsv4_tp.serving.responses.answer import Responding
from dsv4_tp.serving.responses.request import ResponseRequest, parse

__all__ = ["Responding", "ResponseRequest", "parse"]
