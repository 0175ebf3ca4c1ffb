"""The bundled demo model: a tiny trained DeepSeek-V4 in DeepSeek's own file layout.

It is part of the package, so every host has its own. examples/demo_model made it; its card is
checkpoint/README.md.
"""

from pathlib import Path

NAME = "demo"  # as a model's path


def path() -> Path:
    """The directory of the demo checkpoint."""
    return Path(__file__).parent / "checkpoint"


def model_dir(model: str) -> Path:
    """Where this host has `model`: a directory, or `demo` for the bundled one."""
    return path() if model == NAME else Path(model)
