"""Takes secrets out of what is about to be shown to others.

By their names, where they have one, and by their looks, since a traceback may print anything.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

REMOVED = "[removed]"
_NAMED = re.compile(r"(?i)(password|passwd|secret|authorization|credential|api[-_]?key|private)")
_SECRET_NAMES = re.compile(rf"(?i){_NAMED.pattern[4:]}|^token$|_token$")
_LOOKS: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    # Keys and certificates, also where they begin or end outside of what is seen.
    (re.compile(r"-----BEGIN [A-Z ]+-----.*?(?:-----END [A-Z ]+-----|\Z)", re.DOTALL), REMOVED),
    (re.compile(r"\A[A-Za-z0-9+/=\s\\]*-----END [A-Z ]+-----"), REMOVED),
    (re.compile(r"(?i)\bbearer\s+\S+"), REMOVED),
    (re.compile(r"\bsk-[\w-]{12,}"), REMOVED),
    (re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"), REMOVED),
    (
        re.compile(
            rf"(?i)((?:{_NAMED.pattern[4:]}|\btoken)[\w-]*[\"']?\s*[=:]\s*[\"']?)[^\s\"',;}}]+"
        ),
        lambda found: found.group(1) + REMOVED,
    ),
    # Long words of chance. Digests are such words too: their beginning is enough to compare.
    (re.compile(r"\b([0-9a-fA-F]{8})[0-9a-fA-F]{24,}\b"), rf"\1{REMOVED}"),
    (
        re.compile(r"(?<![\w+/.-])(?=\S*\d)(?=\S*[a-z])(?=\S*[A-Z])[A-Za-z0-9+_-]{40,}={0,2}"),
        REMOVED,
    ),
)


def scrub(text: str) -> str:
    """The text without what looks like a secret."""
    for look, instead in _LOOKS:
        text = look.sub(instead, text)
    return text


def scrubbed(value: object) -> object:
    """The same of a JSON value: all its texts, and whole values by their names."""
    match value:
        case str():
            return scrub(value)
        case Mapping():
            named = cast(Mapping[str, object], value)
            return {name: _field(name, each) for name, each in named.items()}
        case Sequence():
            return [scrubbed(each) for each in cast(Sequence[object], value)]
        case _:
            return value


def _field(name: str, value: object) -> object:
    return REMOVED if value and _SECRET_NAMES.search(name) else scrubbed(value)
