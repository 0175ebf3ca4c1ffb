"""What a request says of the calls that its answer may have: the same for all APIs."""

from collections.abc import Sequence

from dsv4_tp.asks import Calls
from dsv4_tp.errors import RequestError


def check_calls(wanted: Calls, tools: Sequence[str], at: str, name_at: str) -> None:
    """Raises RequestError, which names the field `at` or `name_at`, for what no tool can keep."""
    if wanted.name and wanted.name not in tools:
        known = ", ".join(tools) or "none"
        raise RequestError(f"{name_at} is {wanted.name!r}; tools has: {known}")
    if wanted.required and not tools:
        raise RequestError(f"{at}: a call is required, and there are no tools")


def held(wanted: Calls, strict: Sequence[bool | None], *, formed: bool) -> Calls | None:
    """What calls are held to; by themselves only those of strict functions are.

    `strict` is told of each tool that may be called; `formed` is an answer with a JSON schema.
    """
    if wanted.required or (strict and (wanted.single or formed or any(strict))):
        return wanted
    return None
