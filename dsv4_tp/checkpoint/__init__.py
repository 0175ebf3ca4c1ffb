"""Checkpoint files into MLX arrays: only the bytes a rank holds, every bit of them kept."""

from dsv4_tp.checkpoint.adopt import Adopted, adopt
from dsv4_tp.checkpoint.convert import biases_name, scales_name
from dsv4_tp.checkpoint.load import Load, plan_loads, read_group

__all__ = ["Adopted", "Load", "adopt", "biases_name", "plan_loads", "read_group", "scales_name"]
