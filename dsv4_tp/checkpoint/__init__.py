"""Checkpoint files into MLX arrays: only the bytes a rank holds, every bit of them kept."""

from dsv4_tp.checkpoint.adopt import adopt
from dsv4_tp.checkpoint.convert import scales_name
from dsv4_tp.checkpoint.load import Load, plan_loads, read_group

__all__ = ["Load", "adopt", "plan_loads", "read_group", "scales_name"]
