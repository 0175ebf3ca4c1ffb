"""The files of the page, as they lie in the package. They hold no secret, so they need no key."""

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER = Path(__file__).parent / "web"
_FRONT = "index.html"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# What a model writes is never markup; should it become some by a mistake of ours, it can load
# nothing, run nothing and send nothing elsewhere.
_POLICY = "; ".join(
    (
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect", "img")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    )
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",  # the next version's files have the same names
}


@dataclass(frozen=True, slots=True)
class File:
    """One of them."""

    path: str  # as it is asked for
    kind: str
    body: bytes

    async def answer(self, _request: Request) -> Response:
        """All of it."""
        return Response(self.body, headers={**_HEADERS, "content-type": self.kind})


def _read() -> tuple[File, ...]:
    return tuple(
        File(_path(file.name), _TYPES[file.suffix], file.read_bytes())
        for file in sorted(_FOLDER.iterdir())
    )


def _path(name: str) -> str:
    return "/" if name == _FRONT else f"/page/{name}"


_FILES = _read()
PATHS = tuple(file.path for file in _FILES)


def routes() -> list[Route]:
    """Their paths."""
    return [Route(file.path, file.answer) for file in _FILES]
