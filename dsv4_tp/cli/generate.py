"""`dsv4-tp generate`: a text from a running cluster."""

import asyncio
from typing import Any

from dsv4_tp.cli.reach import address_of
from dsv4_tp.cli.speak import asks_for, speak


def run(*, name: str | None, address: str | None, as_json: bool, **wishes: Any) -> None:
    """Generate what the options ask for and show it as it comes."""
    asks = asks_for([wishes.pop("prompt")], wishes, as_json=as_json)
    asyncio.run(speak(address_of(name, address), asks, as_json=as_json))
