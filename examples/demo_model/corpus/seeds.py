"""Random numbers that are the same on every platform, and never shared by two splits."""

import hashlib
from random import Random

_SPLITS = ("train", "held-out")


def rng_for(split: str, number: int) -> Random:
    """The source of text `number` of "train" or "held-out"."""
    if split not in _SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(_SPLITS)}")
    digest = hashlib.sha256(f"dsv4-tp demo corpus/{split}/{number}".encode()).digest()
    return Random(int.from_bytes(digest, "big"))
