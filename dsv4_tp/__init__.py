"""dsv4-tp: DeepSeek-V4 over several Macs as one machine.

    from dsv4_tp import Ask, Client, launch, load

The names of the library (docs/python-api.md) are imported when they are first used: a command that
only plans would else wait for MLX. What there is, and its types, says `__init__.pyi`.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOMES = {
    "dsv4_tp.client": ("Answer", "Ask", "AsyncClient", "Client", "Finish", "Piece", "Stats"),
    "dsv4_tp.core": ("FinishReason",),
    "dsv4_tp.errors": (
        "BusyError",
        "DeadlineError",
        "Dsv4Error",
        "InputError",
        "NotReadyError",
        "RankFailure",
    ),
    "dsv4_tp.library.launched": ("launch",),
    "dsv4_tp.library.local": ("LocalModel", "load"),
}
_LIBRARY = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_LIBRARY)]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _LIBRARY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LIBRARY[name]), name)
