"""Checkpoint files into MLX arrays: only the bytes a rank holds, every bit of them kept."""

from dsv4_tp.checkpoint.adopt import Adopted, adopt
from dsv4_tp.checkpoint.load import read_group

__all__ = ["Adopted", "adopt", "read_group"]
