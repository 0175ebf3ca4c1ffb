"""How names and numbers of tensors are put into an error message."""

from collections.abc import Sequence


def some(names: Sequence[str], *, most: int = 4) -> str:
    """The first `most` names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" (+{rest} more)" if rest > 0 else "")


def tensors(count: int) -> str:
    """So many tensors."""
    return "1 tensor" if count == 1 else f"{count} tensors"
