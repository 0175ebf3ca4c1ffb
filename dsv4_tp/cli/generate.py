"""`dsv4-tp generate`: a text from a running cluster."""

import asyncio
from typing import Any

from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.speak import speak
from dsv4_tp.client import Ask


def run(*, name: str | None, address: str | None, as_json: bool, **wishes: Any) -> None:
    """Generate what the options ask for and show it as it comes."""
    asyncio.run(speak(address_of(name, address), [Ask(**wishes)], as_json=as_json))
