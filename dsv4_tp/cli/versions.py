"""`dsv4-tp --version`: what is installed here, of all that hosts have to agree on."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from dsv4_tp import __version__

_PROTOCOL = "v1"  # of protos/, and of the package with its messages


def version_page() -> str:
    """A line for each; nothing is imported to find out."""
    return "\n".join(
        [
            f"dsv4-tp {__version__}",
            f"Python {platform.python_version()}",
            f"mlx {_version('mlx')}",
            f"mlx-lm {_version('mlx-lm')}",
            _system(),
            f"protocol {_PROTOCOL}; the hosts of a cluster need the same dsv4-tp and mlx, and "
            f"Python {sys.version_info.major}.{sys.version_info.minor}",
        ]
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]} {platform.machine()}"
    return f"{platform.system()} {platform.release()} {platform.machine()}"
