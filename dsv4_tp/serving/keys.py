"""The API keys that clients show: read from a file, and kept as digests."""

import hashlib
import hmac
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.errors import PreflightError

_KEY = re.compile(r"[!-~]{16,256}")
_MOST_BYTES = 2**16


@dataclass(frozen=True, slots=True)
class Keys:
    """Those that open the door."""

    digests: tuple[bytes, ...]

    def know(self, said: str) -> bool:
        """Whether it is one of them; the time that takes does not tell how near it is."""
        digest = _digest(said)
        return sum(hmac.compare_digest(digest, each) for each in self.digests) > 0


def read_keys(file: Path) -> Keys:
    """The keys in a file: one a line; lines that are empty or begin with # are none.

    Raises:
        PreflightError: it cannot be read, others may read it, or a line is no key.
    """
    try:
        with file.open("rb") as stream:
            about, data = os.fstat(stream.fileno()), stream.read(_MOST_BYTES)
    except OSError as error:
        raise PreflightError(f"{file}: {error.strerror}; it is to hold API keys") from error
    if about.st_mode & 0o077 or about.st_uid != os.geteuid():
        raise PreflightError(f"{file}: others could read these API keys; chown or chmod 600 {file}")
    lines = [line.strip() for line in data.decode("ascii", "replace").splitlines()]
    keys = {at: line for at, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for at, key in keys.items():
        if not _KEY.fullmatch(key):  # which is not shown
            raise PreflightError(f"{file}:{at}: expected a key of 16 to 256 letters, digits, signs")
    if not keys:
        raise PreflightError(f"{file}: no key; make one: openssl rand -hex 32 >> {file}")
    return Keys(tuple(_digest(key) for key in dict.fromkeys(keys.values())))


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
