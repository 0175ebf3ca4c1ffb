"""What a request says of the calls its answer may have: one check for all APIs."""

from collections.abc import Sequence
from dataclasses import dataclass

from dsv4_tp.errors import RequestError


@dataclass(frozen=True, slots=True)
class Calling:
    """Whether there has to be a call, of which function, and whether there may be several."""

    required: bool = False
    name: str = ""  # of this function only; empty: of any
    single: bool = False  # one at most


def check_calling(wanted: Calling, tools: Sequence[str], at: str, single_at: str) -> None:
    """Raises RequestError for what cannot be asked of `tools`, which are names.

    It names the field: `at` of the choice, or `single_at`.
    """
    if wanted.name and wanted.name not in tools:
        known = ", ".join(tools) or "none"
        raise RequestError(f"{at}.name is {wanted.name!r}; tools has: {known}")
    if wanted.required:
        raise RequestError(f"{at}: no call can be required yet; say auto")
    if wanted.single and tools:
        raise RequestError(f"{single_at}: calls cannot be kept to one yet; let them be several")
